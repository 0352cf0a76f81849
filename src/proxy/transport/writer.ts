import type { Socket } from "node:net";
import type { ByteSink } from "../core/machine.ts";
import type { SocketMeter } from "../core/metrics.ts";
import { DirectWrite } from "./direct-write.ts";
import { flushAtEndOfTurn } from "./end-of-turn.ts";

// One buffer takes the frames of one socket and turn; 16 KiB is one TLS record.
const CHUNK_BYTES = 16 * 1024;
// Buffers kept for the next turn: enough for the sockets that are written in one turn, not more memory than 4 MiB.
const MAX_POOLED = 256;
// Below this a copy is cheaper than another element of a gathered write.
const COPY_BYTES = 4 * 1024;
// A flush before the end of the turn: bounds what one turn can pile up.
const EARLY_FLUSH_BYTES = 64 * 1024;

const pool: Buffer[] = [];
const NOTHING = Buffer.alloc(0);

/**
 * Gathers what one turn of the event loop writes to a socket and hands it over in one write: one system call, and one
 * TLS record for many frames. Holds no memory between turns.
 */
export class SocketWriter implements ByteSink {
  buffer: Buffer = NOTHING;
  readonly #socket: Socket;
  readonly #meter: SocketMeter;
  readonly #direct: DirectWrite | undefined;
  readonly #onTaken: () => void;
  readonly #written = () => this.#taken();
  #start = 0;
  #end = 0;
  #queued: Buffer[] = [];
  #queuedBytes = 0;
  #dirty = false;
  #watched = false;
  #endAfterFlush = false;

  /** @param onTaken - See {@link watch}. */
  constructor(socket: Socket, meter: SocketMeter, onTaken: () => void) {
    this.#socket = socket;
    this.#meter = meter;
    this.#onTaken = onTaken;
    this.#direct = DirectWrite.of(socket);
  }

  reserve(bytes: number): number {
    if (this.#end + bytes > this.buffer.length) this.#newBuffer(bytes);
    if (!this.#dirty) this.#markDirty();
    return this.#end;
  }

  commit(end: number): void {
    this.#end = end;
  }

  append(view: Buffer): void {
    const { length } = view;
    if (length <= COPY_BYTES) {
      const at = this.reserve(length);
      this.buffer.set(view, at);
      this.#end = at + length;
      return;
    }
    if (!this.#dirty) this.#markDirty();
    this.#seal();
    this.#queued.push(view);
    this.#queuedBytes += length;
    if (this.#queuedBytes >= EARLY_FLUSH_BYTES) this.#send();
  }

  /** Bytes that the kernel has not taken yet: above the socket's high-water mark, stop producing until `drain`. */
  get needsDrain(): boolean {
    return this.#socket.writableNeedDrain || (this.#direct?.needsDrain ?? false);
  }

  get pendingBytes(): number {
    const unsent = this.#socket.writableLength + (this.#direct?.pendingBytes ?? 0);
    return this.#queuedBytes + this.#end - this.#start + unsent;
  }

  /**
   * Has `onTaken` called when the kernel has taken what this turn writes; the socket's `drain`, which comes only if much was
   * left, may come as well.
   */
  watch(): void {
    this.#watched = true;
    if (!this.#dirty) this.#markDirty();
  }

  /** Sends everything and then a FIN. */
  end(): void {
    this.#endAfterFlush = true;
    if (!this.#dirty) this.#markDirty();
  }

  flush(): void {
    this.#dirty = false;
    this.#send();
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (this.#watched && this.pendingBytes === 0) this.#taken();
    if (this.#endAfterFlush) this.#socket.end();
  }

  #send(): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return this.#drop();
    // Called in a later turn, if at all: by then what was taken at once has been told.
    const written = this.#watched ? this.#written : undefined;
    if (this.#queued.length > 0) {
      this.#seal();
      this.#meter.wrote(this.#queuedBytes);
      socket.cork();
      const last = this.#queued.pop() as Buffer;
      for (const view of this.#queued) socket.write(view);
      socket.write(last, written);
      socket.uncork();
      this.#queued = [];
      this.#queuedBytes = 0;
    } else if (this.#end > this.#start) {
      this.#meter.wrote(this.#end - this.#start);
      const whole = this.#start === 0 && this.#end === this.buffer.length;
      const bytes = whole ? this.buffer : this.buffer.subarray(this.#start, this.#end);
      if (this.#direct === undefined || !this.#direct.write(bytes)) socket.write(bytes, written);
    } else if (this.#watched && socket.writableLength > 0 && !socket.writableNeedDrain) socket.write(NOTHING, written);
    // Taken by the kernel, or encrypted, at once: the memory is free again. Otherwise it belongs to the pending write.
    if (this.buffer.length === CHUNK_BYTES && pool.length < MAX_POOLED && socket.writableLength === 0) {
      if (this.#direct === undefined || this.#direct.pendingBytes === 0) pool.push(this.buffer);
    }
    this.buffer = NOTHING;
    this.#start = 0;
    this.#end = 0;
  }

  #taken(): void {
    if (!this.#watched) return;
    this.#watched = false;
    this.#onTaken();
  }

  #markDirty(): void {
    this.#dirty = true;
    flushAtEndOfTurn(this);
  }

  #newBuffer(bytes: number): void {
    this.#seal();
    if (this.#queuedBytes >= EARLY_FLUSH_BYTES) this.#send();
    this.buffer =
      bytes > CHUNK_BYTES ? Buffer.allocUnsafeSlow(bytes) : (pool.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES));
    this.#start = 0;
    this.#end = 0;
  }

  /** Moves what was written so far to the queue, so that a view may follow it. */
  #seal(): void {
    if (this.#end === this.#start) return;
    this.#queued.push(this.buffer.subarray(this.#start, this.#end));
    this.#queuedBytes += this.#end - this.#start;
    this.#start = this.#end;
  }

  #drop(): void {
    this.#queued = [];
    this.#queuedBytes = 0;
    this.buffer = NOTHING;
    this.#start = 0;
    this.#end = 0;
  }
}
