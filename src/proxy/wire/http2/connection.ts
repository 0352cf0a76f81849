import type { Millis } from "../../core/clock.ts";
import { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import type { ByteSink, Machine } from "../../core/machine.ts";
import { BandwidthEstimate } from "./bandwidth.ts";
import { ClosedStreams } from "./closed-streams.ts";
import { ContentIntake } from "./content.ts";
import { connectionError, ErrorCode } from "./errors.ts";
import { FloodGuard } from "./floods.ts";
import { INITIAL_WINDOW_BYTES, ReceiveWindow } from "./flow.ts";
import {
  decodeGoawayCode,
  decodeGoawayLastStreamId,
  decodePingKind,
  decodePingSequence,
  decodeRstStream,
  decodeSettingId,
  decodeSettingValue,
  decodeWindowUpdate,
  dependsOnItself,
  encodeGoaway,
  encodePing,
  encodePingAck,
  encodeRstStream,
  encodeSettings,
  encodeSettingsAck,
  encodeWindowUpdate,
  Flag,
  FrameType,
  fragmentEnd,
  fragmentStart,
  GOAWAY_BYTES,
  PING_BYTES,
  PRIORITY_BYTES,
  RST_STREAM_BYTES,
  SETTING_BYTES,
  WINDOW_UPDATE_BYTES,
} from "./frame/index.ts";
import type { Http2Handler } from "./handler.ts";
import { DEFAULT_TABLE_BYTES, HeaderBlock, HpackDecoder, HpackEncoder } from "./hpack/index.ts";
import { trailersFault } from "./message.ts";
import { completeOptions, type Http2Config, type Http2Options } from "./options.ts";
import { type FrameListener, FrameReader } from "./reader.ts";
import { Sender, type SenderListener } from "./sender.ts";
import { MIN_MAX_FRAME_BYTES, PeerSettings, SettingId } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";
import { StreamTable } from "./stream-table.ts";
import { HeaderWriter } from "./writer.ts";

/** RFC 9113 §5.1.1. */
export const MAX_STREAM_ID = 0x7fff_ffff;

/** What a driver may leave unsent for a reader that is only slow: beyond it, answers are counted. */
const MAX_SLOW_BYTES = 262_144;

const NEVER: Millis = Number.POSITIVE_INFINITY;
const NO_BYTES = Buffer.alloc(0);

// What our PINGs were sent for; comes back in the acknowledgement.
const PING_KEEP_ALIVE = 0x6d65_7368;
const PING_SHUTDOWN = 0x6472_6169;
// How many PINGs a graceful end waits for. The answer to the first may overtake requests: h2, the library of Linkerd's
// proxy, writes it before the HEADERS of streams that it had opened already, and fails those that the last GOAWAY leaves
// out. What answers the second was written after them.
const SHUTDOWN_PINGS = 2;
const PING_BANDWIDTH = 0x6264_7065;
// Four streams at full speed do not wait for each other.
const STREAMS_AT_FULL_SPEED = 4;

/**
 * What both sides of an HTTP/2 connection (RFC 9113) do: frames in, frames out, windows, limits, the end. The sides
 * differ in who opens streams and which heads they read and write: `server.ts`, `client.ts`.
 *
 * ```text
 *   start ─► awaiting SETTINGS ─► open ─┬─ shutdown / GOAWAY ─► going away ─► (driver closes when no stream is open)
 *                                       └─ protocol error, flood, silence ─► failed: GOAWAY, onReset…, onConnectionError
 * ```
 *
 * Own errors inside `receive` travel as exceptions up to it; no other method throws.
 */
export abstract class Http2Connection implements Machine, FrameListener, SenderListener {
  readonly keepsChunks = false;
  protected readonly config: Http2Config;
  protected readonly sink: ByteSink;
  protected readonly streams = new StreamTable();
  protected readonly block: HeaderBlock;
  protected readonly writer: HeaderWriter;
  protected readonly sender: Sender;
  protected readonly floods: FloodGuard;
  protected readonly peer = new PeerSettings();
  protected readonly closedStreams = new ClosedStreams();
  /** GOAWAY is out for good: nothing is read or written any more. */
  protected failed = false;
  /** The latest time anybody told us. */
  protected now: Millis = 0;
  /** SETTINGS of the peer have arrived. */
  protected settingsReceived = false;
  /** The peer goes by our SETTINGS. */
  protected settingsAcknowledged = false;
  protected goingAway = false;
  /** The receive window that a new stream has: what the peer believes it to be. */
  protected streamWindowBytes: number;

  readonly #handler: Http2Handler;
  readonly #isServer: boolean;
  readonly #reader: FrameReader;
  readonly #content: ContentIntake;
  readonly #decoder: HpackDecoder;
  readonly #encoder: HpackEncoder;
  readonly #window: ReceiveWindow;
  /** The size of that window, without what is consumed of it. */
  #windowBytes: number;
  readonly #bandwidth: BandwidthEstimate | undefined;
  /** Of all streams, see {@link hold}. */
  #heldBytes = 0;

  /** The stream of the DATA frame that is being read; undefined if its content is of no use any more. */
  #dataStream: Http2Stream | undefined;
  #dataEndsStream = false;
  /** The stream whose header block goes on in CONTINUATION frames, 0 if none does. */
  #continuing = 0;
  #blockFlags = 0;
  #blockFrames = 0;
  #blockDependsOnItself = false;
  #blockBytes: Buffer = NO_BYTES;
  #blockLength = 0;

  #partialSerial = 0;
  #partialSince: Millis = NEVER;
  #blockSince: Millis = NEVER;
  #settingsDeadline: Millis = NEVER;
  /** What our last SETTINGS said of a stream's window. */
  #targetWindowBytes: number;
  #lastReceived: Millis = 0;
  #pingSequence = 0;
  #pingDeadline: Millis = NEVER;
  #shutdownDeadline: Millis = NEVER;
  #shutdownPending = false;
  /** How many PINGs of the graceful end are answered. */
  #shutdownPings = 0;

  protected constructor(handler: Http2Handler, sink: ByteSink, options: Http2Options | undefined, isServer: boolean) {
    const config = completeOptions(options, isServer);
    this.config = config;
    this.sink = sink;
    this.#handler = handler;
    this.#isServer = isServer;
    this.#reader = new FrameReader(this, isServer);
    this.#content = new ContentIntake(handler);
    this.#decoder = new HpackDecoder(config.headerTableBytes);
    this.#encoder = new HpackEncoder(config.headerTableBytes);
    this.block = new HeaderBlock(config.maxHeaderListBytes);
    this.writer = new HeaderWriter(sink, this.#encoder, MIN_MAX_FRAME_BYTES);
    this.sender = new Sender(sink, this.writer, this);
    this.floods = new FloodGuard(config);
    // Until our SETTINGS are acknowledged the peer may still go by the initial window (RFC 9113 §6.9.2).
    this.streamWindowBytes = Math.max(config.firstWindowBytes, INITIAL_WINDOW_BYTES);
    this.#windowBytes = Math.max(config.connectionWindowBytes, INITIAL_WINDOW_BYTES);
    this.#window = new ReceiveWindow(this.#windowBytes);
    this.#targetWindowBytes = config.firstWindowBytes;
    this.#bandwidth =
      config.maxStreamWindowBytes > config.streamWindowBytes
        ? new BandwidthEstimate(config.maxStreamWindowBytes)
        : undefined;
  }

  /** Streams that are open in at least one direction. */
  get openStreams(): number {
    return this.streams.size;
  }

  /** Either side announced the end: no new streams should be opened, and the driver closes once none is open. */
  get isGoingAway(): boolean {
    return this.goingAway;
  }

  /** Between the two GOAWAYs of {@link shutdown}: requests on their way are still taken. */
  get isShuttingDown(): boolean {
    return this.#shutdownPending || this.#shutdownDeadline !== NEVER;
  }

  /** Writes what this side says first. Call once, before anything else. */
  start(now: Millis): void {
    this.now = now;
    this.#lastReceived = now;
    this.#settingsDeadline = now + this.config.limits.handshakeMs;
    this.floods.tick(now);
    this.writePreface();
    encodeSettings(this.sink, this.#settings());
    // RFC 9113 §6.9.2: SETTINGS cannot change the connection's window.
    const extra = this.#window.available - INITIAL_WINDOW_BYTES;
    if (extra > 0) encodeWindowUpdate(this.sink, 0, extra);
  }

  receive(chunk: Buffer, now: Millis): void {
    if (this.failed) return;
    this.now = now;
    if (chunk.length === 0) {
      this.#halfClose();
      return;
    }
    this.#lastReceived = now;
    // Whatever arrives answers the question whether the peer is alive.
    this.#pingDeadline = NEVER;
    this.floods.tick(now);
    if ((this.sink.pendingBytes ?? 0) <= MAX_SLOW_BYTES) this.floods.answersTaken();
    this.#content.begin();
    try {
      this.floods.checkAnswers();
      this.#reader.read(chunk);
    } catch (error) {
      this.#content.settleAll();
      this.#failWith(error);
      return;
    }
    this.#content.settleAll();
    this.sender.markStalled(now);
    this.#trackPartialFrame(now);
    this.afterTurn();
  }

  timeoutAt(): Millis | undefined {
    if (this.failed) return undefined;
    if (this.#shutdownPending) return this.now;
    let at = Math.min(this.#settingsDeadline, this.#shutdownDeadline, this.#partialDeadline(), this.#keepAliveAt());
    const { stallMs } = this.config.limits;
    const stalled = stallMs === NEVER ? undefined : this.sender.stalledSince();
    // Not known since when: ask for the time at once.
    if (stalled !== undefined) at = Math.min(at, stalled < 0 ? this.now : stalled + stallMs);
    return at === NEVER ? undefined : at;
  }

  expire(now: Millis): void {
    if (this.failed) return;
    this.now = now;
    this.sender.markStalled(now);
    if (this.#shutdownPending) {
      this.#shutdownPending = false;
      this.#shutdownDeadline = now + SHUTDOWN_MS;
    }
    if (now >= this.#settingsDeadline) {
      this.fail(connectionError(ErrorCode.settingsTimeout, "RFC 9113 §6.5.3", "no SETTINGS acknowledgement in time"));
    } else if (now >= this.#partialDeadline()) {
      this.fail(connectionError(ErrorCode.enhanceYourCalm, "RFC 9113 §10.5", "frame or header block not completed"));
    } else if (now >= this.#pingDeadline) {
      this.fail(connectionError(ErrorCode.noError, "RFC 9113 §6.7", "keep-alive PING not answered"));
    } else this.#expireSofter(now);
  }

  /**
   * Sends content. Queues what the peer's windows do not permit.
   *
   * @param view - Kept until it is sent; do not change it. May be empty with `endStream`.
   * @returns false if something is queued: say no more until {@link Http2Handler.onWritable}.
   */
  sendData(stream: Http2Stream, view: Buffer, endStream: boolean): boolean {
    if (stream.closed || stream.localEnded || stream.localEnding) return true;
    this.floods.progress();
    const sent = this.sender.send(stream, view, endStream);
    this.afterCall();
    return sent;
  }

  /** Ends our side with a trailer section, after content that is still queued. */
  sendTrailers(stream: Http2Stream, trailers: HeaderList): void {
    if (stream.closed || stream.localEnded || stream.localEnding) return;
    this.sender.sendTrailers(stream, trailers);
    this.afterCall();
  }

  /** Ends a stream at once, dropping what is queued. {@link Http2Handler.onReset} is not called. */
  reset(stream: Http2Stream, code: number): void {
    if (stream.closed) return;
    encodeRstStream(this.sink, stream.id, code);
    this.closedStreams.add(stream.id, true);
    this.close(stream);
    this.afterCall();
  }

  /**
   * Tells that received content was passed on, so that the peer may send as much again. Content of streams that are
   * closed is credited by the machine.
   */
  credit(stream: Http2Stream, bytes: number): void {
    if (this.failed) return;
    const held = Math.min(bytes, stream.heldBytes);
    if (held > 0) {
      stream.heldBytes -= held;
      this.#heldBytes -= held;
      this.#openReceiveWindow(stream, held);
    }
    const credited = Math.min(bytes - held, stream.uncreditedBytes);
    if (credited <= 0) return;
    stream.uncreditedBytes -= credited;
    this.#creditStream(stream, credited);
  }

  /**
   * Tells that received content cannot be passed on for now: the stream's window stays consumed until {@link credit},
   * the connection's is given back within {@link Http2Limits.heldBytes}, so that a few that stand still do not stop all
   * others.
   */
  hold(stream: Http2Stream, bytes: number): void {
    const held = Math.min(bytes, stream.uncreditedBytes);
    if (held <= 0 || this.failed || this.#heldBytes + held > this.config.limits.heldBytes) return;
    stream.uncreditedBytes -= held;
    stream.heldBytes += held;
    this.#heldBytes += held;
    this.#creditConnection(held);
  }

  /** Says that no stream beyond those seen will be processed (RFC 9113 §6.8). Streams that are open go on. */
  goaway(code: number): void {
    if (this.failed) return;
    this.goingAway = true;
    this.#shutdownPending = false;
    this.#shutdownDeadline = NEVER;
    encodeGoaway(this.sink, this.lastPeerStreamId(), code, "");
    this.onGoawaySent();
  }

  /**
   * Ends the connection without losing a request: GOAWAY without a limit first, so that requests on their way are still
   * taken, and the real one once the peer has answered two PINGs or a second has passed (RFC 9113 §6.8).
   */
  shutdown(): void {
    if (this.failed || this.goingAway) return;
    this.goingAway = true;
    if (!this.#isServer) {
      this.goaway(ErrorCode.noError);
      return;
    }
    encodeGoaway(this.sink, MAX_STREAM_ID, ErrorCode.noError, "");
    encodePing(this.sink, PING_SHUTDOWN, 0);
    this.#shutdownPending = true;
  }

  // ─── what the sides fill in ───────────────────────────────────────────────────────────────────────────────────────

  /** A client's connection preface. */
  protected abstract writePreface(): void;
  /** The block in {@link block} belongs to this stream. */
  protected abstract onHeaderBlock(streamId: number, endStream: boolean, dependsOnItself: boolean): void;
  /** Whether nobody has used this stream yet. */
  protected abstract isIdle(streamId: number): boolean;
  /** The highest stream of the peer's that we took. */
  protected abstract lastPeerStreamId(): number;
  protected abstract onGoawaySent(): void;
  protected abstract onGoawayReceived(lastStreamId: number, code: number): void;
  protected abstract onSettings(): void;
  /** A stream is gone. */
  protected abstract onClosed(): void;
  /** The end of `receive` or `expire`. */
  protected abstract afterTurn(): void;
  /** The end of a call of the driver's that may have closed a stream. */
  protected abstract afterCall(): void;

  // ─── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  onFrame(type: number, flags: number, streamId: number, length: number): void {
    // RFC 9113 §4.2. Frames of unknown types are bound by it too.
    if (length > this.config.maxFrameBytes) throw frameSize("§4.2", "frame larger than SETTINGS_MAX_FRAME_SIZE");
    // RFC 9113 §6.10: nothing may come between the frames of a header block.
    if (this.#continuing !== 0 && (type !== FrameType.continuation || streamId !== this.#continuing)) {
      throw protocol("§6.10", "header block interrupted");
    }
    if (!this.settingsReceived && (type !== FrameType.settings || flags & Flag.ack)) {
      throw protocol("§3.4", "SETTINGS is not the first frame");
    }
    switch (type) {
      case FrameType.data:
        if (streamId === 0) throw protocol("§6.1", "DATA on stream 0");
        this.#beginData(flags, streamId, length);
        return;
      case FrameType.headers:
        if (streamId === 0) throw protocol("§6.2", "HEADERS on stream 0");
        this.floods.headerBlock(1, length);
        return;
      case FrameType.priority:
        if (streamId === 0) throw protocol("§6.3", "PRIORITY on stream 0");
        this.floods.idleFrame();
        return;
      case FrameType.rstStream:
        if (streamId === 0) throw protocol("§6.4", "RST_STREAM on stream 0");
        if (length !== RST_STREAM_BYTES) throw frameSize("§6.4", "RST_STREAM of another length than 4");
        return;
      case FrameType.settings:
        if (streamId !== 0) throw protocol("§6.5", "SETTINGS on a stream");
        if (length % SETTING_BYTES !== 0) throw frameSize("§6.5", "SETTINGS of a length that is no multiple of 6");
        if (flags & Flag.ack && length !== 0) throw frameSize("§6.5", "SETTINGS acknowledgement with a payload");
        this.floods.settings(length, SETTING_BYTES);
        return;
      case FrameType.pushPromise:
        // RFC 9113 §8.4: clients cannot push, and we as a client disabled it.
        throw protocol("§6.6", "PUSH_PROMISE");
      case FrameType.ping:
        if (streamId !== 0) throw protocol("§6.7", "PING on a stream");
        if (length !== PING_BYTES) throw frameSize("§6.7", "PING of another length than 8");
        return;
      case FrameType.goaway:
        if (streamId !== 0) throw protocol("§6.8", "GOAWAY on a stream");
        if (length < GOAWAY_BYTES) throw frameSize("§6.8", "GOAWAY shorter than 8");
        this.floods.idleFrame();
        return;
      case FrameType.windowUpdate:
        if (length !== WINDOW_UPDATE_BYTES) throw frameSize("§6.9", "WINDOW_UPDATE of another length than 4");
        this.floods.idleFrame();
        return;
      case FrameType.continuation:
        if (this.#continuing === 0) throw protocol("§6.10", "CONTINUATION without HEADERS");
        this.floods.headerBlock(++this.#blockFrames, this.#blockLength + length);
        return;
      default:
        // RFC 9113 §5.5: extensions we do not know are skipped.
        this.floods.idleFrame();
    }
  }

  /** @internal */
  onPayload(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    // The driver may have given the connection up from within a handler's method.
    if (this.failed) return;
    switch (type) {
      case FrameType.headers:
        this.#takeHeaders(flags, streamId, bytes, start, end);
        return;
      case FrameType.continuation:
        this.#gatherBlock(bytes, start, end);
        if (flags & Flag.endHeaders) this.#endGatheredBlock();
        return;
      case FrameType.windowUpdate:
        this.#takeWindowUpdate(streamId, decodeWindowUpdate(bytes, start));
        return;
      case FrameType.rstStream:
        this.#takeReset(streamId, decodeRstStream(bytes, start));
        return;
      case FrameType.settings:
        if (flags & Flag.ack) this.#takeSettingsAck();
        else this.#takeSettings(bytes, start, end);
        return;
      case FrameType.ping:
        this.#takePing(flags, bytes, start);
        return;
      case FrameType.priority:
        this.#takePriority(streamId, bytes, start, end);
        return;
      default:
        this.onGoawayReceived(decodeGoawayLastStreamId(bytes, start), decodeGoawayCode(bytes, start));
    }
  }

  #beginData(flags: number, streamId: number, length: number): void {
    // RFC 9113 §6.9.1: the whole payload counts, padding included.
    if (!this.#window.consume(length)) {
      throw connectionError(ErrorCode.flowControlError, "RFC 9113 §6.9.1", "DATA beyond the connection's window");
    }
    this.#dataEndsStream = (flags & Flag.endStream) !== 0;
    this.#dataStream = undefined;
    const stream = this.streams.get(streamId);
    if (stream === undefined) this.#frameOnClosed(FrameType.data, streamId);
    else if (stream.remoteEnded) {
      this.streamError(stream, ErrorCode.streamClosed, "RFC 9113 §5.1", "DATA after END_STREAM");
    } else if (!stream.headReceived) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1", "DATA before HEADERS");
    } else if (!stream.receiveWindow.consume(length)) {
      this.streamError(stream, ErrorCode.flowControlError, "RFC 9113 §6.9.1", "DATA beyond the stream's window");
    } else {
      this.#dataStream = stream;
      return;
    }
    this.#creditConnection(length);
  }

  /** @internal */
  onDataPiece(chunk: Buffer, start: number, end: number, last: boolean): void {
    const stream = this.#dataStream;
    if (stream === undefined || this.failed) return;
    const length = end - start;
    if (stream.closed) {
      this.#creditConnection(length);
      return;
    }
    const endStream = last && this.#dataEndsStream;
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= length;
      // RFC 9113 §8.1.1: seen before the excess goes anywhere.
      if (stream.expectedBytes < 0 || (endStream && stream.expectedBytes > 0)) {
        stream.uncreditedBytes += length;
        this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1.1", "content-length and content differ");
        return;
      }
    }
    if (length > 0) {
      this.floods.progress();
      this.#measure(length);
    } else if (!endStream) {
      this.floods.emptyData();
      return;
    }
    stream.uncreditedBytes += length;
    if (endStream) stream.remoteEnded = true;
    this.#content.piece(stream, chunk, start, end, endStream);
    if (endStream) this.closeIfEnded(stream);
  }

  /** @internal */
  onPadding(bytes: number): void {
    const stream = this.#dataStream;
    if (stream === undefined || this.failed) return;
    this.#creditStream(stream, bytes);
  }

  #takeHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    const to = fragmentEnd(bytes, start, end, flags);
    const from = fragmentStart(start, flags);
    const selfish = (flags & Flag.priority) !== 0 && dependsOnItself(bytes, from - PRIORITY_BYTES, streamId);
    if (flags & Flag.endHeaders) {
      this.#decoder.decode(bytes, from, to, this.block);
      this.#endBlock(streamId, flags, selfish);
      return;
    }
    this.#continuing = streamId;
    this.#blockFlags = flags;
    this.#blockFrames = 1;
    this.#blockDependsOnItself = selfish;
    this.#blockSince = this.now;
    this.#gatherBlock(bytes, from, to);
  }

  #gatherBlock(bytes: Buffer, start: number, end: number): void {
    const length = this.#blockLength + end - start;
    if (length > this.#blockBytes.length) {
      const larger = Buffer.allocUnsafeSlow(length * 2);
      this.#blockBytes.copy(larger, 0, 0, this.#blockLength);
      this.#blockBytes = larger;
    }
    bytes.copy(this.#blockBytes, this.#blockLength, start, end);
    this.#blockLength = length;
  }

  #endGatheredBlock(): void {
    const streamId = this.#continuing;
    const bytes = this.#blockBytes;
    const length = this.#blockLength;
    this.#continuing = 0;
    this.#blockBytes = NO_BYTES;
    this.#blockLength = 0;
    this.#blockSince = NEVER;
    this.#decoder.decode(bytes, 0, length, this.block);
    this.#endBlock(streamId, this.#blockFlags, this.#blockDependsOnItself);
  }

  #endBlock(streamId: number, flags: number, selfish: boolean): void {
    this.floods.progress();
    this.onHeaderBlock(streamId, (flags & Flag.endStream) !== 0, selfish);
  }

  #takePriority(streamId: number, bytes: Buffer, start: number, end: number): void {
    const stream = this.streams.get(streamId);
    if (end - start !== PRIORITY_BYTES) {
      // RFC 9113 §6.3: the stream's error; on a stream that nobody opened there is no stream to end.
      if (stream === undefined) throw frameSize("§6.3", "PRIORITY of another length than 5");
      this.streamError(stream, ErrorCode.frameSizeError, "RFC 9113 §6.3", "PRIORITY of another length than 5");
    } else if (dependsOnItself(bytes, start, streamId)) {
      if (stream === undefined) throw protocol("§5.3.1", "stream depends on itself");
      this.streamError(stream, ErrorCode.protocolError, "RFC 7540 §5.3.1", "stream depends on itself");
    }
  }

  #takeReset(streamId: number, code: number): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdle(streamId)) throw protocol("§6.4", "RST_STREAM on an idle stream");
      this.floods.idleFrame();
      return;
    }
    this.#content.settle(stream);
    if (stream.closed) return;
    this.closedStreams.add(streamId, false);
    this.close(stream);
    this.#handler.onReset(stream, code, true);
    if (this.#isServer) this.floods.reset(!stream.headSent);
  }

  #takeWindowUpdate(streamId: number, increment: number): void {
    if (streamId === 0) {
      if (increment === 0) throw protocol("§6.9", "WINDOW_UPDATE of 0");
      if (!this.sender.openConnection(increment)) {
        throw connectionError(ErrorCode.flowControlError, "RFC 9113 §6.9.1", "connection window beyond 2^31-1");
      }
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      // RFC 9113 §5.1: on a closed stream it may have crossed our END_STREAM.
      if (this.isIdle(streamId)) throw protocol("§5.1", "WINDOW_UPDATE on an idle stream");
    } else if (increment === 0) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §6.9", "WINDOW_UPDATE of 0");
    } else if (!this.sender.openStream(stream, increment)) {
      this.streamError(stream, ErrorCode.flowControlError, "RFC 9113 §6.9.1", "stream window beyond 2^31-1");
    }
  }

  #takeSettings(bytes: Buffer, start: number, end: number): void {
    const windowBefore = this.peer.streamWindowBytes;
    for (let at = start; at < end; at += SETTING_BYTES) {
      const id = decodeSettingId(bytes, at);
      this.peer.apply(id, decodeSettingValue(bytes, at), !this.#isServer);
      // RFC 7541 §4.2: the smallest size in between must be told as well, so each one is taken.
      if (id === SettingId.headerTableSize) this.#encoder.resize(this.peer.headerTableBytes);
    }
    this.settingsReceived = true;
    this.writer.maxFrameBytes = Math.min(this.config.maxFrameBytes, this.peer.maxFrameBytes);
    encodeSettingsAck(this.sink);
    this.floods.answered();
    const delta = this.peer.streamWindowBytes - windowBefore;
    if (delta !== 0) this.#resizeSendWindows(delta);
    this.onSettings();
  }

  #resizeSendWindows(delta: number): void {
    for (const stream of this.streams.values()) {
      if (!this.sender.openStream(stream, delta)) {
        // RFC 9113 §6.9.2.
        throw connectionError(ErrorCode.flowControlError, "RFC 9113 §6.9.2", "stream window beyond 2^31-1");
      }
    }
  }

  #takeSettingsAck(): void {
    if (this.#settingsDeadline === NEVER) return;
    this.#settingsDeadline = NEVER;
    this.settingsAcknowledged = true;
    const bytes = this.#targetWindowBytes;
    const delta = bytes - this.streamWindowBytes;
    if (delta === 0) return;
    this.streamWindowBytes = bytes;
    for (const stream of this.streams.values()) stream.receiveWindow.resize(delta, bytes);
  }

  #takePing(flags: number, bytes: Buffer, start: number): void {
    if (!(flags & Flag.ack)) {
      this.floods.ping();
      this.floods.answered();
      encodePingAck(this.sink, bytes, start);
      return;
    }
    if (decodePingKind(bytes, start) === PING_BANDWIDTH && this.#bandwidth?.isMeasuring === true) {
      this.#adjustWindows(this.#bandwidth);
      return;
    }
    const isShutdown =
      decodePingKind(bytes, start) === PING_SHUTDOWN && decodePingSequence(bytes, start) === this.#shutdownPings;
    if (!isShutdown || !this.isShuttingDown) this.floods.idleFrame();
    else if (++this.#shutdownPings < SHUTDOWN_PINGS) encodePing(this.sink, PING_SHUTDOWN, this.#shutdownPings);
    else this.goaway(ErrorCode.noError);
  }

  #measure(bytes: number): void {
    if (this.#bandwidth?.received(bytes, this.now) === true) encodePing(this.sink, PING_BANDWIDTH, 0);
  }

  #adjustWindows(bandwidth: BandwidthEstimate): void {
    const bytes = bandwidth.answered(this.streamWindowBytes, this.now);
    const delta = bytes - this.streamWindowBytes;
    // While content waits for a slow reader, more of it is of no use; and one change of SETTINGS at a time is enough.
    if (delta <= 0 || this.#heldBytes > 0 || !this.settingsAcknowledged || this.#settingsDeadline !== NEVER) return;
    this.#targetWindowBytes = bytes;
    this.streamWindowBytes = bytes;
    this.#settingsDeadline = this.now + this.config.limits.handshakeMs;
    encodeSettings(this.sink, [[SettingId.initialWindowSize, bytes]]);
    // A larger window counts from here: the peer makes use of it before or after its acknowledgement reaches us.
    for (const stream of this.streams.values()) stream.receiveWindow.grow(bytes, delta);
    const more = bytes * STREAMS_AT_FULL_SPEED - this.#windowBytes;
    if (more <= 0) return;
    this.#windowBytes += more;
    encodeWindowUpdate(this.sink, 0, this.#window.grow(this.#windowBytes, more));
  }

  // ─── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A frame that needs a stream came for one that is not open (RFC 9113 §5.1). Returns if it can be ignored. */
  #frameOnClosed(type: number, streamId: number): void {
    if (this.isIdle(streamId)) throw protocol("§5.1", "frame on an idle stream");
    this.frameAfterClose(type, streamId);
  }

  protected frameAfterClose(type: number, streamId: number): void {
    this.floods.idleFrame();
    switch (this.closedStreams.howClosed(streamId)) {
      case "we-reset":
        // It was on its way when we reset the stream.
        return;
      case "peer-reset":
        this.floods.answered();
        encodeRstStream(this.sink, streamId, ErrorCode.streamClosed);
        return;
      case "ended":
        throw connectionError(
          ErrorCode.streamClosed,
          "RFC 9113 §5.1",
          `frame of type ${type} on a stream that has ended`,
        );
    }
  }

  /** The peer broke a rule that costs one stream. */
  protected streamError(stream: Http2Stream, code: number, section: string, message: string): void {
    this.#content.settle(stream);
    if (stream.closed) return;
    stream.fault = `${message} (${section})`;
    this.floods.answered();
    encodeRstStream(this.sink, stream.id, code);
    this.closedStreams.add(stream.id, true);
    this.close(stream);
    this.#handler.onReset(stream, code, false);
    // CVE-2025-8671: a peer that makes us reset its streams is as expensive as one that resets them itself.
    if (this.#isServer) this.floods.reset(!stream.headSent);
  }

  /** A header block came for a stream whose head is known. */
  protected takeTrailers(stream: Http2Stream, endStream: boolean, dependsOnItself: boolean): void {
    if (stream.remoteEnded) {
      this.streamError(stream, ErrorCode.streamClosed, "RFC 9113 §5.1", "HEADERS after END_STREAM");
      return;
    }
    this.#content.settle(stream);
    if (stream.closed) return;
    if (stream.isConnect) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.5", "HEADERS in a tunnel");
      return;
    }
    const fault = dependsOnItself ? "stream depends on itself" : trailersFault(this.block, endStream);
    if (fault !== undefined || this.block.oversized || stream.expectedBytes > 0) {
      this.streamError(stream, ErrorCode.protocolError, "RFC 9113 §8.1.1", fault ?? "content shorter than announced");
      return;
    }
    stream.remoteEnded = true;
    this.#handler.onTrailers(stream, this.block.headers);
    this.closeIfEnded(stream);
  }

  protected closeIfEnded(stream: Http2Stream): void {
    if (stream.localEnded && stream.remoteEnded && !stream.closed) this.close(stream);
  }

  protected close(stream: Http2Stream): void {
    stream.closed = true;
    stream.gathered = undefined;
    this.streams.delete(stream.id);
    this.sender.drop(stream);
    this.#heldBytes -= stream.heldBytes;
    stream.heldBytes = 0;
    if (stream.uncreditedBytes > 0) {
      const bytes = stream.uncreditedBytes;
      stream.uncreditedBytes = 0;
      this.#creditConnection(bytes);
    }
    this.onClosed();
  }

  /** @internal */
  onSent(stream: Http2Stream): void {
    stream.localEnded = true;
    this.closeIfEnded(stream);
  }

  /** @internal */
  onDrained(stream: Http2Stream): void {
    this.floods.progress();
    this.#handler.onWritable(stream);
  }

  #creditStream(stream: Http2Stream, bytes: number): void {
    this.#openReceiveWindow(stream, bytes);
    this.#creditConnection(bytes);
  }

  #openReceiveWindow(stream: Http2Stream, bytes: number): void {
    if (stream.remoteEnded || stream.closed) return;
    const { receiveWindow } = stream;
    let increment = receiveWindow.credit(bytes);
    if (increment === 0) return;
    const { streamWindowBytes, firstWindowBytes } = this.config;
    // Something was passed on: from here on the stream has the window of all.
    if (firstWindowBytes < streamWindowBytes && receiveWindow.threshold < streamWindowBytes >>> 1) {
      increment += receiveWindow.grow(streamWindowBytes, streamWindowBytes - firstWindowBytes);
    }
    encodeWindowUpdate(this.sink, stream.id, increment);
  }

  #creditConnection(bytes: number): void {
    if (this.failed) return;
    const increment = this.#window.credit(bytes);
    if (increment > 0) encodeWindowUpdate(this.sink, 0, increment);
  }

  // ─── time and the end ─────────────────────────────────────────────────────────────────────────────────────────────

  #settings(): readonly (readonly [number, number])[] {
    const { config } = this;
    const settings: (readonly [number, number])[] = [];
    if (config.headerTableBytes !== DEFAULT_TABLE_BYTES)
      settings.push([SettingId.headerTableSize, config.headerTableBytes]);
    if (!this.#isServer) settings.push([SettingId.enablePush, 0]);
    else settings.push([SettingId.maxConcurrentStreams, config.maxConcurrentStreams]);
    settings.push([SettingId.initialWindowSize, config.firstWindowBytes]);
    settings.push([SettingId.maxFrameSize, config.maxFrameBytes]);
    settings.push([SettingId.maxHeaderListSize, config.maxHeaderListBytes]);
    if (this.#isServer && config.extendedConnect) settings.push([SettingId.enableConnectProtocol, 1]);
    return settings;
  }

  #trackPartialFrame(now: Millis): void {
    if (!this.#reader.isInsideFrame) this.#partialSince = NEVER;
    else if (this.#partialSince === NEVER || this.#partialSerial !== this.#reader.serial) {
      this.#partialSince = now;
      this.#partialSerial = this.#reader.serial;
    }
  }

  #partialDeadline(): Millis {
    return Math.min(this.#partialSince, this.#blockSince) + this.config.limits.handshakeMs;
  }

  #keepAliveAt(): Millis {
    const { keepAlive } = this.config;
    if (keepAlive === undefined) return NEVER;
    if (this.#pingDeadline !== NEVER) return this.#pingDeadline;
    if (!keepAlive.whileIdle && this.streams.size === 0) return NEVER;
    return this.#lastReceived + keepAlive.intervalMs;
  }

  #expireSofter(now: Millis): void {
    const { keepAlive, limits } = this.config;
    if (keepAlive !== undefined && this.#pingDeadline === NEVER && now >= this.#keepAliveAt()) {
      this.#pingDeadline = now + keepAlive.timeoutMs;
      encodePing(this.sink, PING_KEEP_ALIVE, ++this.#pingSequence >>> 0);
    }
    if (now >= this.#shutdownDeadline) this.goaway(ErrorCode.noError);
    try {
      for (let stream = this.sender.stalledStream(now - limits.stallMs); stream !== undefined; ) {
        this.streamError(stream, ErrorCode.cancel, "RFC 9113 §10.5", "window not opened in time");
        stream = this.sender.stalledStream(now - limits.stallMs);
      }
    } catch (error) {
      this.#failWith(error);
      return;
    }
    this.afterTurn();
  }

  #failWith(error: unknown): void {
    // Anything else is a bug, ours or the driver's, and not for us to hide.
    if (!(error instanceof ProtocolError) || error.scope !== "connection") throw error;
    this.fail(error);
  }

  protected fail(error: ProtocolError): void {
    if (this.failed) return;
    encodeGoaway(this.sink, this.lastPeerStreamId(), error.code, error.message);
    // A stream is told INTERNAL_ERROR where the connection has no error code to name.
    this.#end(error.code === ErrorCode.noError ? ErrorCode.internalError : error.code, false);
    this.#handler.onConnectionError(error);
  }

  #halfClose(): void {
    // A server's requests are of no use to anybody; a client's are answered by nobody.
    this.#end(this.#isServer ? ErrorCode.cancel : ErrorCode.internalError, true);
    this.#handler.onEnd();
  }

  #end(code: number, remote: boolean): void {
    this.failed = true;
    this.goingAway = true;
    this.#shutdownPending = false;
    this.#shutdownDeadline = NEVER;
    this.#blockBytes = NO_BYTES;
    for (const stream of this.streams.values()) {
      if (stream.closed) continue;
      stream.closed = true;
      this.sender.drop(stream);
      this.#handler.onReset(stream, code, remote);
    }
    this.streams.clear();
  }
}

/** How long a graceful end waits for its PING, if the peer answers none. */
const SHUTDOWN_MS = 1_000;

function protocol(section: string, message: string): ProtocolError {
  return connectionError(ErrorCode.protocolError, `RFC 9113 ${section}`, message);
}

function frameSize(section: string, message: string): ProtocolError {
  return connectionError(ErrorCode.frameSizeError, `RFC 9113 ${section}`, message);
}
