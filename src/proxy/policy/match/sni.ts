import type { ConnectionRoute, SniMatch } from "../model.ts";

/**
 * Chooses the TLS route for an SNI: exact beats suffix, longer beats shorter, the first wins ties; a route without
 * names takes whatever is left.
 * @param sni - As read from the ClientHello, in lower case. Patterns are compared with case, as Linkerd does.
 */
export function findTlsRoute(routes: readonly ConnectionRoute[], sni: string): ConnectionRoute | undefined {
  let best: ConnectionRoute | undefined;
  let bestRank = -1;
  for (const route of routes) {
    let rank = route.snis.length === 0 ? 0 : -1;
    for (const match of route.snis) rank = Math.max(rank, rankSni(match, sni));
    if (rank > bestRank) {
      best = route;
      bestRank = rank;
    }
  }
  return best;
}

function rankSni(match: SniMatch, sni: string): number {
  const pattern = match.value;
  const name = sni.endsWith(".") && !pattern.endsWith(".") ? sni.slice(0, -1) : sni;
  if (match.kind === "exact") return name === pattern ? 65_536 + pattern.length : -1;
  return name.length > pattern.length && name.endsWith(pattern) ? 1 + pattern.length : -1;
}
