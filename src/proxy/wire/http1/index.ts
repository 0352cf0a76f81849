/**
 * HTTP/1.0 and 1.1 without I/O: a machine for either side of a connection, and the decision whether first bytes are HTTP
 * at all. Pure: imports `proxy/core` only. Messages that two readers could understand in two ways are refused, never
 * repaired. Start reading at `server.ts`; `head.ts` and `body.ts` hold the grammar, `writer.ts` the other direction.
 */

export { Http1Client } from "./client.ts";
export { type DetectedHttp, detectHttp, MAX_DETECT_BYTES } from "./detect.ts";
export type { Http1ClientHandler, Http1ServerHandler } from "./handler.ts";
export { isUpgradeRequest, stripHopByHop } from "./hop-by-hop.ts";
export { DEFAULT_HTTP1_LIMITS, type Http1Limits } from "./limits.ts";
export { reasonPhrase } from "./reason-phrase.ts";
export { Http1Server } from "./server.ts";
