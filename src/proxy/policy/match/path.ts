import type { PathMatch } from "../model.ts";

/** The path does not fit. */
export const NO_PATH = -1;

/**
 * Matches a path and says how much it counts. Exact, prefix and regex are *not* ranked by kind, only by this length:
 * a regex counts the whole path, so it ties with an exact match and beats every shorter prefix (Linkerd, unlike
 * Gateway API).
 *
 * @param path - As sent, without query; not decoded.
 * @returns {@link NO_PATH}, or the length for ranking.
 * @see linkerd2-proxy linkerd/http/route/src/http/match/path.rs
 */
export function matchPath(match: PathMatch | undefined, path: string): number {
  // A match without a path ranks as the prefix `/`.
  if (match === undefined) return 1;
  switch (match.kind) {
    case "exact":
      return path === match.path ? path.length : NO_PATH;
    case "prefix":
      return matchPrefix(match.prefix, path);
    case "regex":
      return match.pattern.matches?.(path) === true ? path.length : NO_PATH;
    default:
      return match satisfies never;
  }
}

function matchPrefix(prefix: string, path: string): number {
  if (prefix === "") return 1;
  if (!path.startsWith(prefix)) return NO_PATH;
  // Whole segments only: `/foo` fits `/foo` and `/foo/bar`, not `/foobar`.
  return path.length === prefix.length || path.charCodeAt(prefix.length) === 0x2f ? prefix.length : NO_PATH;
}
