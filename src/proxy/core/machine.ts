import type { Millis } from "./clock.ts";

/**
 * The answer of a one-shot codec, so that nobody guesses what a short read means.
 *
 * - `done`: `consumed` bytes gave `value`.
 * - `more`: ask again once `atLeast` bytes are there in total.
 * - `no`: not this protocol, or malformed; `why` is for logs.
 */
export type Decoded<T> =
  | { readonly kind: "done"; readonly value: T; readonly consumed: number }
  | { readonly kind: "more"; readonly atLeast: number }
  | { readonly kind: "no"; readonly why: string };

/** Memory that many sockets are read into in turn: whoever keeps some of it keeps a copy. */
export interface Lent {
  readonly bytes: Buffer;
  /** The same bytes. */
  readonly view: DataView;
  /** A copy of [from, to), to be kept. */
  own(from: number, to: number): Buffer;
}

/**
 * A codec with memory, without I/O. It calls a handler that is set once per connection and writes into a
 * {@link ByteSink} that the driver owns; nothing is allocated to report an event.
 */
export interface Machine {
  /** Whether {@link receive} may keep views of what it is given, or hand them on: then its memory must not be reused. */
  readonly keepsChunks: boolean;
  /**
   * Takes bytes as they were read. An empty chunk is the peer's half-close. Never throws for anything a peer can send.
   */
  receive(chunk: Buffer, now: Millis): void;
  /**
   * Takes the first `length` bytes of memory that is only lent, as if they had been received.
   * @returns false if nothing was taken: then they have to be received.
   */
  receiveLent?(lent: Lent, length: number, now: Millis): boolean;
  /** When to call {@link expire} if nothing happens before; undefined while nothing is due. */
  timeoutAt(): Millis | undefined;
  expire(now: Millis): void;
}

/**
 * Where a machine writes. The driver owns the memory and sends it once at the end of the turn: many frames, one
 * write, one TLS record.
 */
export interface ByteSink {
  /** The memory to write into; may be another buffer after every call of {@link reserve} or {@link append}. */
  readonly buffer: Buffer;
  /** Bytes written that the peer has not taken yet; undefined where nobody knows. */
  readonly pendingBytes?: number;
  /** Makes room for `bytes` contiguous bytes and returns the offset in {@link buffer} at which to start writing. */
  reserve(bytes: number): number;
  /** Ends what the last {@link reserve} began: everything below `end` is to be sent. */
  commit(end: number): void;
  /** Sends `view` after everything committed so far. Small views are copied, large ones kept: do not change them. */
  append(view: Buffer): void;
}
