import type { Socket } from "node:net";
import type { Millis } from "../core/clock.ts";
import type { Lent, Machine } from "../core/machine.ts";
import type { SocketMeter } from "../core/metrics.ts";
import { abort } from "./abort.ts";
import { errnoOf } from "./errno.ts";
import type { Runtime } from "./runtime.ts";
import { LARGE_BYTES, type Pace, SocketReader } from "./socket-reader.ts";
import type { Timed } from "./timer-wheel.ts";
import { SocketWriter } from "./writer.ts";

// Whoever produces more than this stops until the kernel has taken it, within a turn as well: then the sender is given back
// no more of its window than has left, and a stalled stream holds its window and this (W03: at most 128 KiB). HAProxy's
// buffers are of 16 KiB.
const MAX_UNSENT_BYTES = 16 * 1024;
// A peer that takes nothing of what waits for it for this long is given up, as by Envoy's stream_idle_timeout; nginx's
// send_timeout is a minute. What it holds up meanwhile is bounded above.
const STALL_MS = 300_000;
// After our FIN a peer may still send; past this we stop listening.
const LINGER_MS = 2_000;

const EMPTY = Buffer.alloc(0);

/**
 * The part that all drivers share: one wire machine on one socket. Reads, lets the machine act, flushes once at the end
 * of the turn, keeps the machine's timer on the wheel.
 */
export abstract class Connection implements Timed {
  wheelTick: number | undefined;
  readonly socket: Socket;
  protected readonly runtime: Runtime;
  protected readonly writer: SocketWriter;
  protected abstract readonly machine: Machine;
  protected closed = false;
  /** Handed to someone else (an upgrade): nothing here touches the socket any more. */
  protected released = false;
  protected readonly meter: SocketMeter;
  #errno = "";
  #readPaused = false;
  /** Undefined: by the socket's `data` events. */
  #reader: SocketReader | undefined;
  /** Since when somebody has been waiting for the socket to take what it has. */
  #fullSince: Millis | undefined;
  #lingerUntil: Millis | undefined;
  readonly #onData = (chunk: Buffer) => this.#receive(chunk);
  readonly #onLent = (lent: Lent, length: number) => this.#receiveLent(lent, length);
  readonly #onEnd = () => this.#receive(EMPTY);
  readonly #onDrain = () => {
    this.#fullSince = undefined;
    this.drained();
  };
  readonly #onError = (error: Error) => {
    this.#errno = errnoOf(error);
  };
  readonly #onClose = () => this.#close();

  constructor(socket: Socket, runtime: Runtime, meter: SocketMeter) {
    this.socket = socket;
    this.runtime = runtime;
    this.meter = meter;
    this.writer = new SocketWriter(socket, meter, this.#onDrain);
  }

  /** Begins reading; `first` is what was read from the socket before. */
  protected run(first: Buffer | undefined, pace: Pace): void {
    const { socket } = this;
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("drain", this.#onDrain);
    // A reset or a broken TLS record: `close` follows, and that is where streams learn of it.
    socket.on("error", this.#onError);
    socket.on("close", this.#onClose);
    // What came while the connection was looked at waits in its stream. Taken from there it is told as `data`, and a reader can
    // have the rest.
    const isMore = socket.readableLength > 0;
    const isLarge = first !== undefined && first.length >= LARGE_BYTES && !isMore;
    if (first !== undefined && first.length > 0 && !isLarge) this.#receive(first);
    if (isMore && !this.#readPaused && !this.released) socket.read();
    if (!this.released) {
      const onLent = this.machine.receiveLent === undefined ? undefined : this.#onLent;
      this.#reader = SocketReader.attach(socket, this.#onData, !this.machine.keepsChunks, pace, onLent);
    }
    if (isLarge) {
      if (this.#reader === undefined) this.#receive(first);
      else this.#reader.putBack(first);
    }
    // Detection may have heard the end already.
    if (socket.readableEnded && !this.released) this.#onEnd();
    if (!this.#readPaused && !this.released) this.#resume();
    this.runtime.wheel.arm(this);
  }

  /** The machine was given bytes or time: for what the driver does about it once all events are through. */
  protected afterReceive(): void {}
  /** The socket takes bytes again. */
  protected abstract drained(): void;
  /** The socket is gone: every exchange must hear of it. Called once. */
  protected abstract lost(): void;

  /** The socket has enough: stop writing until {@link drained}, which a peer must not put off for ever. */
  protected get backedUp(): boolean {
    if (this.writer.pendingBytes <= MAX_UNSENT_BYTES && !this.writer.needsDrain) return false;
    this.writer.watch();
    if (this.#fullSince === undefined) {
      this.#fullSince = this.runtime.clock.now();
      this.runtime.wheel.arm(this);
    }
    return true;
  }

  protected pauseReading(): void {
    if (this.#readPaused) return;
    this.#readPaused = true;
    if (this.#reader === undefined) this.socket.pause();
    else this.#reader.pause();
  }

  protected resumeReading(): void {
    if (!this.#readPaused) return;
    this.#readPaused = false;
    if (!this.closed && !this.released) this.#resume();
  }

  /** Sends what is there, then a FIN; waits a little for the peer to finish, so that our last bytes are not reset away. */
  protected finish(): void {
    if (this.closed || this.#lingerUntil !== undefined) return;
    this.#lingerUntil = this.runtime.clock.now() + LINGER_MS;
    this.writer.end();
    this.resumeReading();
    this.runtime.wheel.arm(this);
  }

  /** The peer's end came without the close_notify of TLS. */
  protected get wasCut(): boolean {
    return this.#reader?.wasCut === true;
  }

  protected get finishing(): boolean {
    return this.#lingerUntil !== undefined;
  }

  /** Gives the socket away with everything detached. What was written so far is flushed first. */
  protected release(): Socket {
    const { socket } = this;
    this.released = true;
    this.writer.flush();
    socket.pause();
    this.#reader?.release();
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("drain", this.#onDrain);
    socket.off("close", this.#onClose);
    this.runtime.wheel.disarm(this);
    return socket;
  }

  destroy(): void {
    this.socket.destroy();
    this.#close();
  }

  timeoutAt(): Millis | undefined {
    if (this.#lingerUntil !== undefined) return this.#lingerUntil;
    const at = this.machine.timeoutAt();
    if (this.#fullSince === undefined) return at;
    const stalledAt = this.#fullSince + STALL_MS;
    return at === undefined ? stalledAt : Math.min(at, stalledAt);
  }

  expire(now: Millis): void {
    if (this.#lingerUntil !== undefined) {
      this.destroy();
      return;
    }
    if (this.#fullSince !== undefined && this.#fullSince + STALL_MS <= now) {
      // What it did not get must not look complete.
      abort(this.socket);
      this.destroy();
      return;
    }
    this.machine.expire(now);
    this.afterReceive();
  }

  #resume(): void {
    // With a reader, what flows is only the end.
    this.socket.resume();
    this.#reader?.resume();
  }

  #receive(chunk: Buffer): void {
    if (this.closed) return;
    if (chunk.length > 0) this.meter.read(chunk.length);
    if (this.#lingerUntil !== undefined) {
      if (chunk.length === 0) {
        // Both sides are done; but what was said in this turn has yet to leave.
        this.writer.flush();
        this.socket.destroySoon();
      }
      return;
    }
    const { clock } = this.runtime;
    const now = clock.hold?.() ?? clock.now();
    try {
      this.machine.receive(chunk, now);
      this.afterReceive();
      this.runtime.wheel.arm(this);
    } finally {
      clock.release?.();
    }
  }

  #receiveLent(lent: Lent, length: number): boolean {
    const { machine } = this;
    if (this.closed || this.#lingerUntil !== undefined || machine.receiveLent === undefined) return false;
    const { clock } = this.runtime;
    const now = clock.hold?.() ?? clock.now();
    try {
      if (!machine.receiveLent(lent, length, now)) return false;
      this.meter.read(length);
      this.afterReceive();
      this.runtime.wheel.arm(this);
      return true;
    } finally {
      clock.release?.();
    }
  }

  #close(): void {
    if (this.closed) return;
    this.closed = true;
    this.runtime.wheel.disarm(this);
    if (this.released) return;
    this.meter.closed(this.#errno);
    this.lost();
  }
}
