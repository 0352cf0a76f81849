import { latin1Slice } from "./latin1.ts";

/** `more`: undecided, ask again with more bytes. */
export type DetectedHttp = "http1" | "http2" | "not-http" | "more";

/**
 * Bytes after which a first line that could still become a request line is taken for one. An HTTP/1 server refuses it;
 * as opaque bytes it would reach the application past every route's authorization.
 */
export const MAX_DETECT_BYTES = 8192;

const LF = 0x0a;
// RFC 9113 §3.4. As for Linkerd, these bytes decide; what follows is the HTTP/2 machine's to judge.
const PREFACE = "PRI * HTTP/2.0";
// Empty lines and blanks before the request, which careless servers skip.
const LEAD = /^[\r\n\t ]*/;
// A first word of visible characters. Not only tokens: a server that takes `G(T` for a method must not be reached by it.
const FIRST_WORD = /^[!-~]+/;

/**
 * Judges the first bytes of a connection by the line they begin with. Linkerd decides on one read of at least 14 bytes;
 * here a line split over reads is waited for, and whatever a lenient server might take for a request is HTTP/1, so that
 * it is parsed strictly or refused.
 *
 * - `http1`: the line names HTTP, or is HTTP/0.9's `GET /…`, or got longer than {@link MAX_DETECT_BYTES}.
 * - `not-http`: a control or non-ASCII character in the first word, or a whole line without any of that.
 *
 * @param bytes - The connection's first bytes, split anywhere.
 */
export function detectHttp(bytes: Buffer): DetectedHttp {
  if (bytes.length === 0) return "more";
  const text = latin1Slice(bytes, 0, Math.min(bytes.length, MAX_DETECT_BYTES));
  if (text.startsWith(PREFACE)) return "http2";
  if (PREFACE.startsWith(text)) return "more";
  const isFull = bytes.length >= MAX_DETECT_BYTES;
  const lead = LEAD.exec(text)?.[0].length ?? 0;
  if (lead === text.length) return isFull ? "http1" : "more";
  const end = bytes.indexOf(LF, lead);
  const isWhole = end >= 0 && end < text.length;
  const line = text.slice(lead, isWhole ? end : text.length);
  const word = FIRST_WORD.exec(line)?.[0] ?? "";
  if (word.length < line.length && !/[\t\r ]/.test(line.charAt(word.length))) return "not-http";
  if (/HTTP\/\d/i.test(line.slice(word.length))) return "http1";
  if (isWhole) return line.startsWith("GET /") ? "http1" : "not-http";
  return isFull ? "http1" : "more";
}
