import type { RequestHead } from "../../core/http.ts";
import type { ByteSink } from "../../core/machine.ts";
import { Http2Connection, MAX_STREAM_ID } from "./connection.ts";
import { connectionError, ErrorCode } from "./errors.ts";
import { FrameType } from "./frame/index.ts";
import type { Http2ClientHandler } from "./handler.ts";
import { expectedContent, responseFault, responseHead } from "./message.ts";
import type { Http2Options } from "./options.ts";
import { PREFACE } from "./reader.ts";
import { Http2Stream } from "./stream.ts";

// RFC 9113 §6.5.2 recommends no less to servers, so a client may count on it before it has heard from one.
const STREAMS_BEFORE_SETTINGS = 100;

/** The client's side of one connection: sends requests, takes responses. */
export class Http2Client extends Http2Connection {
  readonly #handler: Http2ClientHandler;
  protected nextStreamId = 1;
  /** openStream was refused for want of capacity, or the first SETTINGS have arrived. */
  #capacityWanted = false;
  #capacityCame = false;
  #inTurn = false;

  constructor(handler: Http2ClientHandler, sink: ByteSink, options?: Http2Options) {
    super(handler, sink, options, false);
    this.#handler = handler;
  }

  /** Whether the server announced RFC 8441 and the options allow it. */
  get allowsExtendedConnect(): boolean {
    return this.config.extendedConnect && this.peer.enableConnectProtocol;
  }

  /** The server's SETTINGS have arrived: what it allows is known. */
  get isSettled(): boolean {
    return this.settingsReceived;
  }

  /**
   * Takes the next stream. Nothing is sent before {@link sendRequest}, which must follow before another stream is opened.
   *
   * @returns undefined at the server's stream limit (onCapacity follows), or while going away.
   */
  openStream(context: unknown): Http2Stream | undefined {
    if (this.failed || this.goingAway) return undefined;
    if (this.streams.size >= this.#streamLimit()) {
      this.#capacityWanted = true;
      return undefined;
    }
    const stream = new Http2Stream(this.nextStreamId, this.peer.streamWindowBytes, this.streamWindowBytes);
    stream.context = context;
    this.nextStreamId += 2;
    this.streams.add(stream);
    return stream;
  }

  /** Sends the head of a request. Connection-specific fields in it are left out. */
  sendRequest(stream: Http2Stream, head: RequestHead, endStream: boolean): void {
    if (stream.closed || stream.headSent) return;
    stream.headSent = true;
    stream.isHead = head.method === "HEAD";
    stream.isConnect = head.method === "CONNECT";
    this.writer.writeRequest(stream.id, head, endStream);
    if (endStream) stream.localEnded = true;
    if (stream.id < MAX_STREAM_ID || this.goingAway) return;
    // RFC 9113 §5.1.1: no identifier is left (after 15 hours of 20,000 requests per second). The connection ends as if
    // the server had asked for it.
    this.goingAway = true;
    this.#handler.onGoaway(MAX_STREAM_ID, ErrorCode.noError);
  }

  override reset(stream: Http2Stream, code: number): void {
    if (!stream.headSent && !stream.closed) {
      // Never sent, so the server does not know it: RST_STREAM on an idle stream would cost the connection.
      this.close(stream);
      this.afterCall();
      return;
    }
    super.reset(stream, code);
  }

  override receive(chunk: Buffer, now: number): void {
    this.#inTurn = true;
    super.receive(chunk, now);
    this.#inTurn = false;
    this.afterCall();
  }

  protected override onHeaderBlock(streamId: number, endStream: boolean, dependsOnItself: boolean): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdle(streamId)) {
        throw connectionError(ErrorCode.protocolError, "RFC 9113 §5.1", "HEADERS on an idle stream");
      }
      this.frameAfterClose(FrameType.headers, streamId);
    } else if (stream.headReceived) this.takeTrailers(stream, endStream, dependsOnItself);
    else if (dependsOnItself || this.block.oversized) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1.1", "header list too large");
    } else this.#takeResponse(stream, endStream);
  }

  #takeResponse(stream: Http2Stream, endStream: boolean): void {
    const { block } = this;
    const fault = responseFault(block, endStream);
    if (fault !== undefined) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1.1", fault);
      return;
    }
    const head = responseHead(block);
    if (head.status < 200) {
      if (++stream.interims > this.config.limits.interims) {
        this.streamError(stream, ErrorCode.enhanceYourCalm, "RFC 9113 §10.5", "too many interim responses");
      } else this.#handler.onInterim(stream, head);
      return;
    }
    const expected = expectedContent(block, head.status, stream.isHead, stream.isConnect);
    if (endStream && expected > 0) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1.1", "content-length without content");
      return;
    }
    stream.expectedBytes = expected;
    stream.headReceived = true;
    // Refused, it is a response like any other.
    if (head.status >= 300) stream.isConnect = false;
    stream.remoteEnded = endStream;
    this.#handler.onResponse(stream, head, endStream);
    if (endStream) this.closeIfEnded(stream);
  }

  protected override isIdle(streamId: number): boolean {
    return streamId >= this.nextStreamId || (streamId & 1) === 0;
  }

  protected override lastPeerStreamId(): number {
    // Servers open none here.
    return 0;
  }

  protected override onGoawaySent(): void {}

  protected override onGoawayReceived(lastStreamId: number, code: number): void {
    this.goingAway = true;
    for (const stream of this.streams.values()) {
      // A stream that is told of its end may end another one.
      if (stream.id <= lastStreamId || stream.closed) continue;
      this.closedStreams.add(stream.id, false);
      this.close(stream);
      this.#handler.onReset(stream, ErrorCode.refusedStream, true);
    }
    this.#handler.onGoaway(lastStreamId, code);
  }

  protected override onSettings(): void {
    this.#capacityCame = true;
  }

  protected override onClosed(): void {
    if (this.#capacityWanted) this.#capacityCame = true;
  }

  protected override afterTurn(): void {}

  /** Reports capacity once nothing else is being reported. */
  protected override afterCall(): void {
    if (this.#inTurn || !this.#capacityCame) return;
    this.#capacityCame = false;
    if (this.failed || this.goingAway || this.streams.size >= this.#streamLimit()) return;
    this.#capacityWanted = false;
    this.#handler.onCapacity();
  }

  protected override writePreface(): void {
    const at = this.sink.reserve(PREFACE.length);
    PREFACE.copy(this.sink.buffer, at);
    this.sink.commit(at + PREFACE.length);
  }

  #streamLimit(): number {
    return this.settingsReceived ? this.peer.maxConcurrentStreams : STREAMS_BEFORE_SETTINGS;
  }
}
