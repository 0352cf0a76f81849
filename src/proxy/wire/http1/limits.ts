import type { Millis } from "../../core/clock.ts";

/** What one HTTP/1 connection may cost. Everything a stranger sends is bounded by one of these. */
export interface Http1Limits {
  /** Bytes of a head, from the first byte of the start line through the empty line. */
  readonly maxHeadBytes: number;
  /** Bytes of a request line that is refused as too long (414) rather than the head as a whole (431). */
  readonly maxTargetBytes: number;
  /** Fields of a head, and of a trailer section. */
  readonly maxFields: number;
  readonly maxTrailerBytes: number;
  /** Bytes of chunk extensions over one whole message. */
  readonly maxExtensionBytes: number;
  /** Bytes kept of requests that were sent before the response to the one before; beyond it reading pauses. */
  readonly maxPipelinedBytes: number;
  /** Interim responses to one request. */
  readonly maxInterim: number;
  /** Bytes of a request's content read after its response is complete, before the connection is given up. */
  readonly maxUnreadBytes: number;
  /** Time for a request head, from its first byte. */
  readonly headTimeoutMs: Millis;
  /** Time between requests; undefined = for ever. */
  readonly idleTimeoutMs: Millis | undefined;
  /** While no response began, a request's content must bring {@link minContentBytes} in every such span; undefined = any pace. */
  readonly contentWindowMs: Millis | undefined;
  readonly minContentBytes: number;
}

export const DEFAULT_HTTP1_LIMITS: Http1Limits = {
  // 64 KiB as Envoy's default of 60 KiB, rounded; hyper holds 408 KiB, Node 16 KiB.
  maxHeadBytes: 65_536,
  // hyper refuses a URI beyond 65,534 bytes. With our head bound a longer line is what broke it.
  maxTargetBytes: 32_768,
  // As hyper and Envoy.
  maxFields: 100,
  // As Envoy and h2o, which take trailers for small.
  maxTrailerBytes: 16_384,
  // 16 KiB: Go's answer to chunk extensions as an amplifier (CVE-2023-39326).
  maxExtensionBytes: 16_384,
  maxPipelinedBytes: 65_536,
  maxInterim: 100,
  // 64 KiB, as Go's net/http drains 256 KiB and Apache none.
  maxUnreadBytes: 65_536,
  // Apache's mod_reqtimeout gives 20 s, nginx 60 s, HAProxy's manual advises 10 s.
  headTimeoutMs: 10_000,
  // As Apache in front of slow clients and nginx's 75 s.
  idleTimeoutMs: 60_000,
  contentWindowMs: 60_000,
  minContentBytes: 16_384,
};
