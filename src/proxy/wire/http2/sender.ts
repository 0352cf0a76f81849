import { ByteQueue } from "../../core/byte-queue.ts";
import type { Millis } from "../../core/clock.ts";
import type { HeaderList } from "../../core/header.ts";
import type { ByteSink } from "../../core/machine.ts";
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./flow.ts";
import { encodeData } from "./frame/index.ts";
import { MIN_MAX_FRAME_BYTES } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";
import type { HeaderWriter } from "./writer.ts";

/** Largest DATA payload. The peer may allow more, but one stream's turn should not delay the others. */
const MAX_DATA_BYTES = MIN_MAX_FRAME_BYTES;

/** What a {@link Sender} tells the connection. */
export interface SenderListener {
  /** END_STREAM is in the sink. */
  onSent(stream: Http2Stream): void;
  /** Everything that was queued is in the sink. After {@link onSent} if that applies too. */
  onDrained(stream: Http2Stream): void;
}

/**
 * Sends content and trailers within the peer's windows (RFC 9113 §5.2), and keeps in order what they do not permit.
 * Bounded because `send` says when to stop: one view per stream is queued beyond the windows.
 */
export class Sender {
  readonly #sink: ByteSink;
  readonly #writer: HeaderWriter;
  readonly #listener: SenderListener;
  /** The connection's window. */
  #window = INITIAL_WINDOW_BYTES;
  /** Streams that wait for the connection's window alone, in the order of their turns. */
  readonly #waiting = new Set<Http2Stream>();
  /** Streams with a queue, the one that has not moved for longest first. */
  readonly #stalled = new Set<Http2Stream>();
  /** Those of them that began to wait, or moved, at a time not known yet. */
  #unmarked: Http2Stream[] = [];

  constructor(sink: ByteSink, writer: HeaderWriter, listener: SenderListener) {
    this.#sink = sink;
    this.#writer = writer;
    this.#listener = listener;
  }

  /** @returns false if a part is queued. */
  send(stream: Http2Stream, view: Buffer, endStream: boolean): boolean {
    if (stream.queue !== undefined) {
      stream.queue.push(view);
      stream.queuedBytes += view.length;
      stream.localEnding = endStream;
      return false;
    }
    const { length } = view;
    const end = this.#write(stream, view, 0, Math.min(length, stream.sendWindow, this.#window), endStream);
    if (end === length) {
      if (endStream) this.#listener.onSent(stream);
      return true;
    }
    stream.queue = new ByteQueue();
    stream.queue.push(end === 0 ? view : view.subarray(end));
    stream.queueOffset = 0;
    stream.queuedBytes = length - end;
    stream.localEnding = endStream;
    this.#stall(stream);
    return false;
  }

  sendTrailers(stream: Http2Stream, trailers: HeaderList): void {
    if (stream.queue !== undefined) {
      stream.queuedTrailers = trailers;
      stream.localEnding = true;
      return;
    }
    this.#writer.writeTrailers(stream.id, trailers);
    this.#listener.onSent(stream);
  }

  /** Forgets a stream that is gone. */
  drop(stream: Http2Stream): void {
    if (stream.queue === undefined) return;
    stream.queue = undefined;
    stream.queuedBytes = 0;
    stream.queuedTrailers = undefined;
    this.#waiting.delete(stream);
    this.#stalled.delete(stream);
  }

  /** @returns false if the peer opened the connection's window beyond 2^31-1. */
  openConnection(increment: number): boolean {
    this.#window += increment;
    if (this.#window > MAX_WINDOW_BYTES) return false;
    // A stream that still has something to say goes to the end of the set, where this loop meets it again: turns of
    // one frame each.
    for (const stream of this.#waiting) {
      if (this.#window <= 0) break;
      this.#waiting.delete(stream);
      this.#advance(stream, MAX_DATA_BYTES);
    }
    return true;
  }

  /** @returns false if the peer opened the stream's window beyond 2^31-1. */
  openStream(stream: Http2Stream, increment: number): boolean {
    const before = stream.sendWindow;
    stream.sendWindow += increment;
    if (stream.sendWindow > MAX_WINDOW_BYTES) return false;
    // While the stream waits for the connection as well, its turn comes there.
    if (stream.queue !== undefined && before <= 0 && stream.sendWindow > 0) {
      if (this.#window > 0 && this.#waiting.size === 0) this.#advance(stream, Number.POSITIVE_INFINITY);
      else this.#waiting.add(stream);
    }
    return true;
  }

  /** How long the longest-waiting stream has waited: the time it began, -1 if not known yet, undefined if none waits. */
  stalledSince(): Millis | undefined {
    for (const stream of this.#stalled) return stream.stalledSince;
    return undefined;
  }

  /** Gives streams that began to wait at an unknown time the present one. */
  markStalled(now: Millis): void {
    if (this.#unmarked.length === 0) return;
    for (const stream of this.#unmarked) if (stream.stalledSince < 0) stream.stalledSince = now;
    this.#unmarked = [];
  }

  /** A stream that has waited since `before` or longer. */
  stalledStream(before: Millis): Http2Stream | undefined {
    for (const stream of this.#stalled) {
      return stream.stalledSince >= 0 && stream.stalledSince <= before ? stream : undefined;
    }
    return undefined;
  }

  /** Writes frames up to `limit` of `view` and returns where it stopped. */
  #write(stream: Http2Stream, view: Buffer, start: number, limit: number, endStream: boolean): number {
    const { length } = view;
    let at = start;
    // An empty view still carries its END_STREAM, whatever the windows say (RFC 9113 §6.9.1).
    if (length === start) {
      if (endStream) encodeData(this.#sink, stream.id, view, at, at, true);
      return at;
    }
    while (at < limit) {
      const end = Math.min(limit, at + MAX_DATA_BYTES);
      encodeData(this.#sink, stream.id, view, at, end, endStream && end === length);
      at = end;
    }
    if (at > start) {
      stream.sendWindow -= at - start;
      this.#window -= at - start;
    }
    return at;
  }

  /** Sends from a stream's queue, at most `allowance` bytes of it and what the windows permit. */
  #advance(stream: Http2Stream, allowance: number): void {
    const queue = (stream.queue as ByteQueue).views;
    let left = Math.min(allowance, stream.sendWindow, this.#window);
    if (left <= 0) return;
    while (queue.length > 0 && left > 0) {
      const view = queue[0] as Buffer;
      const start = stream.queueOffset;
      const isLast = queue.length === 1 && stream.localEnding && stream.queuedTrailers === undefined;
      const end = this.#write(stream, view, start, Math.min(view.length, start + left), isLast);
      left -= end - start;
      stream.queuedBytes -= end - start;
      if (end === view.length) {
        queue.shift();
        stream.queueOffset = 0;
      } else stream.queueOffset = end;
    }
    if (queue.length === 0) {
      this.#finish(stream);
      return;
    }
    this.#stalled.delete(stream);
    this.#stall(stream);
  }

  #stall(stream: Http2Stream): void {
    stream.stalledSince = -1;
    this.#stalled.add(stream);
    this.#unmarked.push(stream);
    if (stream.sendWindow > 0) this.#waiting.add(stream);
  }

  #finish(stream: Http2Stream): void {
    const trailers = stream.queuedTrailers;
    const ended = stream.localEnding;
    this.drop(stream);
    if (trailers !== undefined) this.#writer.writeTrailers(stream.id, trailers);
    if (ended) this.#listener.onSent(stream);
    this.#listener.onDrained(stream);
  }
}
