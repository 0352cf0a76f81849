import type { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { Http2Stream } from "./stream.ts";

/** What both sides of a connection report. Streams carry the driver's state in `stream.context`. */
export interface Http2Handler {
  /**
   * Content, the driver's to keep; may be empty only with `endStream`. The receive window stays consumed until the
   * driver calls `machine.credit(stream, bytes)`; padding is credited by the machine itself.
   */
  onData(stream: Http2Stream, view: Buffer, endStream: boolean): void;
  /** Ends the peer's side of the stream. */
  onTrailers(stream: Http2Stream, trailers: HeaderList): void;
  /** The stream is gone: the peer reset it (`remote`), or we did because of a protocol error. Not called for own `reset()`. */
  onReset(stream: Http2Stream, code: number, remote: boolean): void;
  /** What sendData could not send at once has been handed to the sink; more may be sent. */
  onWritable(stream: Http2Stream): void;
  /** The peer will process nothing above `lastStreamId`; streams above it were reported by onReset with REFUSED_STREAM. */
  onGoaway(lastStreamId: number, code: number): void;
  /** The connection is lost to a protocol error; GOAWAY is in the sink: flush, then close. Every stream got onReset before. */
  onConnectionError(error: ProtocolError): void;
  /** The peer half-closed. Streams that were open got onReset before. */
  onEnd(): void;
}

export interface Http2ServerHandler extends Http2Handler {
  onRequest(stream: Http2Stream, head: RequestHead, endStream: boolean): void;
}

export interface Http2ClientHandler extends Http2Handler {
  onInterim(stream: Http2Stream, head: ResponseHead): void;
  onResponse(stream: Http2Stream, head: ResponseHead, endStream: boolean): void;
  /** Streams may be opened again after openStream returned undefined (stream limit), or settings arrived. */
  onCapacity(): void;
}
