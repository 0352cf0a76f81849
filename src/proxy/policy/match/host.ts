import type { HostMatch } from "../model.ts";

/** Rank of a route that names no hosts. */
export const ANY_HOST = 0;
/** The route names hosts and none fits. */
export const NO_HOST = -1;

// Any exact match outranks any suffix: DNS names are shorter than this.
const EXACT = 65_536;

/**
 * Ranks a request's host against a route's: exact > suffix > none, then the longer pattern.
 *
 * @param host - In lower case, without port; undefined: the request names none, and only routes without hosts fit.
 * @returns {@link NO_HOST}, or a rank of which the larger wins.
 * @see linkerd2-proxy linkerd/http/route/src/http/match/host.rs
 */
export function rankHosts(hosts: readonly HostMatch[], host: string | undefined): number {
  if (hosts.length === 0) return ANY_HOST;
  if (host === undefined) return NO_HOST;
  let best = NO_HOST;
  for (const match of hosts) {
    const rank = rankHost(match, host);
    if (rank > best) best = rank;
  }
  return best;
}

function rankHost(match: HostMatch, host: string): number {
  const pattern = match.kind === "exact" ? match.host : match.suffix;
  // One trailing dot of the request's host is ignored, unless the pattern insists on it.
  const name = host.endsWith(".") && !pattern.endsWith(".") ? host.slice(0, -1) : host;
  if (match.kind === "exact") return name === pattern ? EXACT + pattern.length : NO_HOST;
  // `*.example.com` needs a label before the dot.
  return name.length > pattern.length && name.endsWith(pattern) ? 1 + pattern.length : NO_HOST;
}
