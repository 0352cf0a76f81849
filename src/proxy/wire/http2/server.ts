import { H, HeaderList } from "../../core/header.ts";
import type { ResponseHead } from "../../core/http.ts";
import type { ByteSink } from "../../core/machine.ts";
import { Http2Connection, MAX_STREAM_ID } from "./connection.ts";
import { connectionError, ErrorCode } from "./errors.ts";
import { encodeRstStream, FrameType } from "./frame/index.ts";
import type { Http2ServerHandler } from "./handler.ts";
import { expectedContent, requestFault, requestHead } from "./message.ts";
import type { Http2Options } from "./options.ts";
import { Http2Stream } from "./stream.ts";

// A peer this close to the last identifier should begin anew while streams can still be taken (RFC 9113 §5.1.1).
const LAST_COMFORTABLE_ID = MAX_STREAM_ID - 2_000;

const HEADERS_TOO_LARGE: ResponseHead = { status: 431, version: "2", headers: tooLargeFields(), reason: undefined };

function tooLargeFields(): HeaderList {
  const headers = new HeaderList();
  headers.add(H.contentLength, "0");
  return headers;
}

/** The server's side of one connection: takes requests, sends responses. */
export class Http2Server extends Http2Connection {
  readonly #handler: Http2ServerHandler;
  /** The highest stream the client opened. */
  #lastStreamId = 0;
  /** The identifiers the client skipped last: never used, and not to be used any more. */
  #skippedFrom = 0;
  #skippedTo = 0;
  /** Streams above it are not ours to process (RFC 9113 §6.8). */
  #goawayStreamId = MAX_STREAM_ID;

  constructor(handler: Http2ServerHandler, sink: ByteSink, options?: Http2Options) {
    super(handler, sink, options, true);
    this.#handler = handler;
  }

  /** Sends an interim (1xx) response; any number may precede the final one. */
  sendInterim(stream: Http2Stream, head: ResponseHead): void {
    if (stream.closed || stream.headSent) return;
    this.floods.answered();
    this.writer.writeResponse(stream.id, head, false);
  }

  /** Sends the final response head. Connection-specific fields in it are left out. */
  sendHead(stream: Http2Stream, head: ResponseHead, endStream: boolean): void {
    if (stream.closed || stream.headSent) return;
    stream.headSent = true;
    this.floods.answered();
    this.writer.writeResponse(stream.id, head, endStream);
    if (endStream) this.onSent(stream);
  }

  protected override onHeaderBlock(streamId: number, endStream: boolean, dependsOnItself: boolean): void {
    const stream = this.streams.get(streamId);
    if (stream !== undefined) this.takeTrailers(stream, endStream, dependsOnItself);
    else if (this.isIdle(streamId)) this.#takeRequest(streamId, endStream, dependsOnItself);
    else if (streamId >= this.#skippedFrom && streamId <= this.#skippedTo) {
      throw connectionError(ErrorCode.protocolError, "RFC 9113 §5.1.1", "stream identifier lower than a previous one");
    } else this.frameAfterClose(FrameType.headers, streamId);
  }

  #takeRequest(streamId: number, endStream: boolean, dependsOnItself: boolean): void {
    if ((streamId & 1) === 0) {
      throw connectionError(ErrorCode.protocolError, "RFC 9113 §5.1.1", "client opened an even stream");
    }
    if (streamId > this.#lastStreamId + 2) {
      this.#skippedFrom = this.#lastStreamId + 2;
      this.#skippedTo = streamId - 2;
    }
    this.#lastStreamId = streamId;
    // Opened before our last GOAWAY reached the client: it knows that we will not answer.
    if (streamId > this.#goawayStreamId) {
      this.closedStreams.add(streamId, true);
      return;
    }
    this.floods.opened();
    const { block, config } = this;
    if (this.streams.size >= config.maxConcurrentStreams) {
      this.#refuse(streamId, ErrorCode.refusedStream, this.settingsAcknowledged);
    } else if (this.floods.isRefusing) {
      this.#refuse(streamId, ErrorCode.enhanceYourCalm);
    } else if (block.oversized) {
      // RFC 6585 §5: an answer says more than a reset.
      this.writer.writeResponse(streamId, HEADERS_TOO_LARGE, true);
      this.#refuse(streamId, ErrorCode.noError);
    } else if (dependsOnItself || requestFault(block, config.extendedConnect) !== undefined) {
      this.#refuse(streamId, ErrorCode.protocolError);
    } else this.#open(streamId, endStream);
    if (streamId > LAST_COMFORTABLE_ID) this.shutdown();
  }

  #open(streamId: number, endStream: boolean): void {
    const { block } = this;
    const isConnect = block.method === "CONNECT";
    const expected = expectedContent(block, 0, false, isConnect);
    if (endStream && expected > 0) {
      this.#refuse(streamId, ErrorCode.protocolError);
      return;
    }
    const stream = new Http2Stream(streamId, this.peer.streamWindowBytes, this.streamWindowBytes);
    stream.headReceived = true;
    stream.remoteEnded = endStream;
    stream.expectedBytes = expected;
    stream.isConnect = isConnect;
    this.streams.add(stream);
    this.#handler.onRequest(stream, requestHead(block), endStream);
  }

  /** Ends a stream that the driver never hears of. */
  #refuse(streamId: number, code: number, countsAsReset = true): void {
    encodeRstStream(this.sink, streamId, code);
    this.floods.answered();
    this.closedStreams.add(streamId, true);
    // A client that did not know our limit yet is only fast.
    if (countsAsReset) this.floods.reset(true);
  }

  protected override isIdle(streamId: number): boolean {
    return streamId > this.#lastStreamId || (streamId & 1) === 0;
  }

  protected override lastPeerStreamId(): number {
    return Math.min(this.#lastStreamId, this.#goawayStreamId);
  }

  protected override onGoawaySent(): void {
    this.#goawayStreamId = this.lastPeerStreamId();
  }

  protected override onGoawayReceived(lastStreamId: number, code: number): void {
    // The client will take no pushed streams, which it never gets; its own go on.
    this.#handler.onGoaway(lastStreamId, code);
  }

  protected override writePreface(): void {}
  protected override onSettings(): void {}
  protected override onClosed(): void {}
  protected override afterTurn(): void {}
  protected override afterCall(): void {}
}
