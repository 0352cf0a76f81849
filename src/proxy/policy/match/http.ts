import type { HttpMatch } from "../model.ts";
import { matchPath, NO_PATH } from "./path.ts";
import type { Rank } from "./rank.ts";
import type { RequestView } from "./request.ts";
import { matchHeaders, matchQuery } from "./value.ts";

/**
 * Matches an HTTP request: method, path, every header, every query parameter. Ranks by path length, then number of
 * headers, of query parameters, then whether a method is named (Gateway API puts the method before the headers).
 * @returns Whether it fits; if so `rank` is filled in.
 */
export function matchHttp(match: HttpMatch, request: RequestView, rank: Rank): boolean {
  if (match.method !== undefined && match.method !== request.method) return false;
  const length = matchPath(match.path, request.path);
  if (length === NO_PATH) return false;
  if (!matchHeaders(match.headers, request.headers)) return false;
  if (match.query.length > 0 && !matchQuery(match.query, request.query)) return false;
  rank.set(length, match.headers.length, match.query.length, match.method === undefined ? 0 : 1);
  return true;
}
