import type { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";

/** What a server machine reports, in this order per request: onRequest, onData*, onRequestEnd. */
export interface Http1ServerHandler {
  /** @param endStream - No body follows; onRequestEnd is not called then. */
  onRequest(head: RequestHead, endStream: boolean): void;
  /** A view of the chunk that was read; never empty. Chunked framing is already removed. */
  onData(view: Buffer): void;
  onRequestEnd(trailers: HeaderList | undefined): void;
  /**
   * The peer broke the protocol, or closed inside a message. Nothing more is reported. `error.code` is the status to
   * answer with if no response head was sent yet; then close.
   */
  onError(error: ProtocolError): void;
  /** The peer half-closed between messages: an orderly end. */
  onEnd(): void;
}

/** What a client machine reports, per response: onInterim*, onResponse, onData*, onResponseEnd. */
export interface Http1ClientHandler {
  onInterim(head: ResponseHead): void;
  /** @param endStream - No body follows; onResponseEnd is not called then. */
  onResponse(head: ResponseHead, endStream: boolean): void;
  onData(view: Buffer): void;
  onResponseEnd(trailers: HeaderList | undefined): void;
  /** The response is unusable or was cut short: never reuse the connection, never end the message cleanly. */
  onError(error: ProtocolError): void;
  /** The peer half-closed while nothing was outstanding. */
  onEnd(): void;
}
