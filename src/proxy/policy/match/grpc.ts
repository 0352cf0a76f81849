import type { GrpcMatch } from "../model.ts";
import type { Rank } from "./rank.ts";
import type { RequestView } from "./request.ts";
import { matchHeaders } from "./value.ts";

/**
 * Matches a gRPC call: POST to `/service/method`, more segments are tolerated. Ranks by service length, then method
 * length, then number of headers.
 * @returns Whether it fits; if so `rank` is filled in.
 * @see linkerd2-proxy linkerd/http/route/src/grpc/match.rs
 */
export function matchGrpc(match: GrpcMatch, request: RequestView, rank: Rank): boolean {
  const { path } = request;
  if (request.method !== "POST" || path.charCodeAt(0) !== 0x2f /* / */) return false;
  const slash = path.indexOf("/", 1);
  if (slash < 0) return false;
  if (match.service !== "" && !segmentIs(path, 1, slash, match.service)) return false;
  if (match.method !== "") {
    const end = path.indexOf("/", slash + 1);
    if (!segmentIs(path, slash + 1, end < 0 ? path.length : end, match.method)) return false;
  }
  if (!matchHeaders(match.headers, request.headers)) return false;
  rank.set(match.service.length, match.method.length, match.headers.length, 0);
  return true;
}

function segmentIs(path: string, start: number, end: number, text: string): boolean {
  return end - start === text.length && path.startsWith(text, start);
}
