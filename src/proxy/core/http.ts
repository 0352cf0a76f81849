import type { HeaderList } from "./header.ts";

/** What the message was in on the wire it came from. */
export type HttpVersion = "1.0" | "1.1" | "2";

/** RFC 9112 §3.2. In HTTP/2 always `origin`, or `asterisk` for `OPTIONS *`, or `authority` for CONNECT. */
export type TargetForm = "origin" | "absolute" | "authority" | "asterisk";

/**
 * The head of a request. For HTTP/1 `host` stays in {@link headers} and `authority` is what routing uses: the target's
 * authority where it has one, else `Host`, else undefined. For HTTP/2 `:authority` is in `authority` only.
 */
export interface RequestHead {
  readonly method: string;
  /** `http` unless an absolute-form target or `:scheme` says otherwise. */
  scheme: string;
  /** `host[:port]` as sent (not lower-cased), without userinfo. */
  authority: string | undefined;
  /** Path and query, at least `/`; `*` for asterisk-form; empty for authority-form. Never a fragment. */
  path: string;
  form: TargetForm;
  version: HttpVersion;
  readonly headers: HeaderList;
  /** `:protocol` of an extended CONNECT (RFC 8441). */
  readonly protocol: string | undefined;
}

/** The head of a response, final or interim. */
export interface ResponseHead {
  /** 100–599. */
  status: number;
  version: HttpVersion;
  readonly headers: HeaderList;
  /** HTTP/1 reason phrase as received; undefined = the usual one. */
  readonly reason: string | undefined;
}
