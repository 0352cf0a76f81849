/**
 * Why a request or a connection failed: the metric label, the log field and the text in `l5d-proxy-error`.
 * The table gives what the peer hears; below `protocol` it is Linkerd's (linkerd/app/core/src/errors/respond.rs).
 */
export type Reason = keyof typeof REASONS;

export const REASONS = {
  protocol: { http: 400, grpc: 13, closes: true, text: "bad request" },
  "route-not-found": { http: 404, grpc: 5, closes: false, text: "no route found for request" },
  unauthorized: { http: 403, grpc: 7, closes: false, text: "unauthorized request on route" },
  "rate-limited": { http: 429, grpc: 8, closes: false, text: "rate limit exceeded" },
  "loop-detected": { http: 508, grpc: 10, closes: true, text: "gateway loop detected" },
  "connect-failed": { http: 502, grpc: 14, closes: true, text: "connect failed" },
  "identity-mismatch": { http: 502, grpc: 14, closes: true, text: "endpoint identity does not match" },
  "identity-missing": {
    http: 502,
    grpc: 14,
    closes: true,
    text: "endpoint should be meshed and no identity is usable",
  },
  "endpoint-reset": { http: 502, grpc: 14, closes: true, text: "endpoint closed the connection" },
  "load-shed": { http: 503, grpc: 14, closes: true, text: "service unavailable" },
  failfast: { http: 504, grpc: 4, closes: true, text: "service in fail-fast" },
  "connect-timeout": { http: 504, grpc: 4, closes: true, text: "connect timed out" },
  "response-timeout": { http: 504, grpc: 4, closes: false, text: "timed out waiting for response headers" },
  redirected: { http: 301, grpc: 5, closes: false, text: "redirected" },
  injected: { http: 500, grpc: 9, closes: false, text: "injected failure" },
  unexpected: { http: 500, grpc: 13, closes: true, text: "unexpected error" },
} as const satisfies Record<string, { http: number; grpc: number; closes: boolean; text: string }>;

/** Which of a route's time limits an exchange ran into: of all of it, its head, its answer, or of silence. */
export type TimeLimit = "request" | "headers" | "response" | "idle";

/** An error that one layer raises and `rescue` turns into an answer. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly reason: Reason;
  /** HTTP status, unless the reason's is meant. */
  readonly http: number;
  readonly grpc: number;
  readonly closes: boolean;
  /** Further fields of the answer, such as `location`. */
  readonly headers: readonly (readonly [name: string, value: string])[] | undefined;
  /** The endpoint reset the stream with this code: a client that speaks HTTP/2 itself hears the same. */
  readonly resetCode: number | undefined;
  /** With `response-timeout`: which. */
  readonly limit: TimeLimit | undefined;

  constructor(
    reason: Reason,
    message?: string,
    options?: {
      cause?: unknown;
      http?: number;
      grpc?: number;
      closes?: boolean;
      resetCode?: number;
      limit?: TimeLimit;
      headers?: readonly (readonly [name: string, value: string])[];
    },
  ) {
    super(message ?? REASONS[reason].text, options?.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.http = options?.http ?? REASONS[reason].http;
    this.grpc = options?.grpc ?? REASONS[reason].grpc;
    this.closes = options?.closes ?? REASONS[reason].closes;
    this.headers = options?.headers;
    this.resetCode = options?.resetCode;
    this.limit = options?.limit;
  }
}

/** A peer, or we, broke the wire protocol. The only error a codec raises. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  /** Who broke it. */
  readonly side: "local" | "remote";
  /** Whether the stream or the whole connection is lost. */
  readonly scope: "stream" | "connection";
  /** HTTP/2 error code (RFC 9113 §7), or the HTTP status with which an HTTP/1 server refuses. */
  readonly code: number;
  /** The rule that was broken, such as `RFC 9112 §6.3`. */
  readonly section: string;

  constructor(
    side: "local" | "remote",
    scope: "stream" | "connection",
    code: number,
    section: string,
    message: string,
  ) {
    super(message);
    this.side = side;
    this.scope = scope;
    this.code = code;
    this.section = section;
  }
}
