/**
 * HTTP/2 (RFC 9113) as two machines without I/O, one per side: bytes in, calls of a handler and bytes in a sink out.
 * Imports core only.
 *
 * Start with `connection.ts`, which reads like the life of a connection; `server.ts` and `client.ts` add their side. On
 * the way in a byte passes `reader.ts` (frames), `hpack/` (fields) and `message.ts` (what a head may say), on the way
 * out `writer.ts` (heads) and `sender.ts` (content within windows). `options.ts` holds every limit with its precedent,
 * `floods.ts` counts against them.
 */
export { Http2Client } from "./client.ts";
export { ErrorCode } from "./errors.ts";
export type { Http2ClientHandler, Http2Handler, Http2ServerHandler } from "./handler.ts";
export { DEFAULT_LIMITS, type Http2Limits, type Http2Options, type KeepAlive, MESH_WINDOW_BYTES } from "./options.ts";
export { PREFACE } from "./reader.ts";
export { Http2Server } from "./server.ts";
export { Http2Stream } from "./stream.ts";
