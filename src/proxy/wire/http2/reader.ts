import { connectionError, ErrorCode } from "./errors.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, readUint31 } from "./frame/index.ts";

/** RFC 9113 §3.4. */
export const PREFACE: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

// A split frame's memory grows with what has arrived, not with what its header promises: 4,000 half frames are cheap.
const INITIAL_SCRATCH_BYTES = 256;
const NO_BYTES = Buffer.alloc(0);

/** What a {@link FrameReader} calls; of frames of unknown types, only onFrame. Any of them may throw; the reader is not used again then. */
export interface FrameListener {
  /** A frame header was read; its payload has not arrived yet, or not been looked at. */
  onFrame(type: number, flags: number, streamId: number, length: number): void;
  /** A whole payload of a frame other than DATA. Valid during the call only. */
  onPayload(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void;
  /** A piece of DATA without its padding; `last` with the final one, which may be empty. */
  onDataPiece(chunk: Buffer, start: number, end: number, last: boolean): void;
  /** Octets of a DATA frame that are no data: padding and its length. */
  onPadding(bytes: number): void;
}

const State = { preface: 0, header: 1, payload: 2, padLength: 3, data: 4, padding: 5, skip: 6 } as const;

/**
 * Cuts a connection's bytes into frames wherever they are split. DATA is passed on as it comes; of other frames only
 * those that are split are copied.
 *
 * ```text
 *   preface ─► header ─┬─► payload ──────────────────────┬─► header
 *                      ├─► padLength ─► data ─► padding ─┤
 *                      └─► skip ─────────────────────────┘
 * ```
 */
export class FrameReader {
  readonly #listener: FrameListener;
  #state: number;
  /** Bytes of the preface or of the frame header that have arrived. */
  #have = 0;
  readonly #header: Buffer = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Bytes still to come in the present state. */
  #left = 0;
  #serial = 0;
  #padding = 0;
  #scratch = NO_BYTES;
  #scratchLength = 0;

  /** @param expectPreface - Whether a client's connection preface comes first. */
  constructor(listener: FrameListener, expectPreface: boolean) {
    this.#listener = listener;
    this.#state = expectPreface ? State.preface : State.header;
  }

  /** Whether a frame other than DATA, or the preface, has begun and not ended. */
  get isInsideFrame(): boolean {
    return this.#state === State.payload || this.#have > 0;
  }

  /** Frames of which at least one octet has arrived. */
  get serial(): number {
    return this.#serial;
  }

  read(chunk: Buffer): void {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      switch (this.#state) {
        case State.preface:
          at = this.#readPreface(chunk, at, end);
          break;
        case State.header:
          at = this.#readHeader(chunk, at, end);
          break;
        case State.payload:
          at = this.#gather(chunk, at, end);
          break;
        case State.padLength:
          this.#takePadLength(chunk[at++] as number);
          break;
        case State.data:
          at = this.#passData(chunk, at, end);
          break;
        default:
          at = this.#skip(at, end);
      }
    }
  }

  #readPreface(chunk: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && this.#have < PREFACE.length) {
      if (chunk[at++] !== PREFACE[this.#have++]) {
        throw connectionError(ErrorCode.protocolError, "RFC 9113 §3.4", "malformed connection preface");
      }
    }
    if (this.#have === PREFACE.length) {
      this.#have = 0;
      this.#state = State.header;
    }
    return at;
  }

  #readHeader(chunk: Buffer, start: number, end: number): number {
    let at = start;
    if (this.#have === 0) this.#serial++;
    if (this.#have === 0 && end - at >= FRAME_HEADER_BYTES) {
      this.#beginFrame(chunk, at);
      at += FRAME_HEADER_BYTES;
    } else {
      while (at < end && this.#have < FRAME_HEADER_BYTES) this.#header[this.#have++] = chunk[at++] as number;
      if (this.#have < FRAME_HEADER_BYTES) return at;
      this.#have = 0;
      this.#beginFrame(this.#header, 0);
    }
    // The common case: a control frame that is all here, read in place.
    if (this.#state === State.payload && end - at >= this.#left) {
      const to = at + this.#left;
      this.#state = State.header;
      this.#listener.onPayload(this.#type, this.#flags, this.#streamId, chunk, at, to);
      return to;
    }
    return at;
  }

  #beginFrame(bytes: Buffer, at: number): void {
    const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    const streamId = readUint31(bytes, at + 5);
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    this.#left = length;
    this.#listener.onFrame(type, flags, streamId, length);
    if (type === FrameType.data) this.#beginData(length, flags);
    else if (type <= FrameType.continuation) this.#state = State.payload;
    else this.#state = length === 0 ? State.header : State.skip;
  }

  #beginData(length: number, flags: number): void {
    this.#padding = 0;
    if (flags & Flag.padded) {
      if (length === 0) throw connectionError(ErrorCode.frameSizeError, "RFC 9113 §6.1", "no room for the pad length");
      this.#state = State.padLength;
    } else if (length === 0) {
      this.#state = State.header;
      this.#listener.onDataPiece(NO_BYTES, 0, 0, true);
    } else this.#state = State.data;
  }

  #takePadLength(padding: number): void {
    const data = this.#left - 1 - padding;
    if (data < 0) throw connectionError(ErrorCode.protocolError, "RFC 9113 §6.1", "padding exceeds DATA payload");
    this.#padding = padding;
    this.#left = data;
    this.#state = State.data;
    this.#listener.onPadding(1 + padding);
    if (data === 0) this.#endData(NO_BYTES, 0, 0);
  }

  #passData(chunk: Buffer, at: number, end: number): number {
    const to = Math.min(end, at + this.#left);
    this.#left -= to - at;
    if (this.#left === 0) this.#endData(chunk, at, to);
    else this.#listener.onDataPiece(chunk, at, to, false);
    return to;
  }

  #endData(chunk: Buffer, start: number, end: number): void {
    this.#left = this.#padding;
    this.#state = this.#padding === 0 ? State.header : State.padding;
    this.#listener.onDataPiece(chunk, start, end, true);
  }

  #skip(at: number, end: number): number {
    const to = Math.min(end, at + this.#left);
    this.#left -= to - at;
    if (this.#left === 0) this.#state = State.header;
    return to;
  }

  #gather(chunk: Buffer, start: number, end: number): number {
    const to = Math.min(end, start + this.#left);
    const length = this.#scratchLength + to - start;
    if (length > this.#scratch.length) {
      const size = Math.min(this.#scratchLength + this.#left, Math.max(INITIAL_SCRATCH_BYTES, length * 2));
      const larger = Buffer.allocUnsafeSlow(size);
      this.#scratch.copy(larger, 0, 0, this.#scratchLength);
      this.#scratch = larger;
    }
    chunk.copy(this.#scratch, this.#scratchLength, start, to);
    this.#scratchLength = length;
    this.#left -= to - start;
    if (this.#left > 0) return to;
    const payload = this.#scratch;
    this.#scratch = NO_BYTES;
    this.#scratchLength = 0;
    this.#state = State.header;
    this.#listener.onPayload(this.#type, this.#flags, this.#streamId, payload, 0, length);
    return to;
  }
}
