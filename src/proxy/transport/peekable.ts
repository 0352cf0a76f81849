import type { Socket } from "node:net";
import type { Millis } from "../core/clock.ts";
import type { Runtime } from "./runtime.ts";
import type { Timed } from "./timer-wheel.ts";

/** Looks at a connection's first bytes until it knows enough. */
export interface PeekDecider {
  /** @param bytes - All that was read so far. @returns false to go on reading; true when the decider took over. */
  look(bytes: Buffer): boolean;
  /** The client half-closed before a verdict. */
  ended(bytes: Buffer): void;
  timedOut(bytes: Buffer): void;
  /** The connection broke. Nothing more is called. */
  lost(): void;
}

const NOTHING = Buffer.alloc(0);

/** Reads the first bytes of a paused socket and gives both back: the socket, paused, and every byte read from it. */
export class Peek implements Timed {
  wheelTick: number | undefined;
  readonly #socket: Socket;
  readonly #decider: PeekDecider;
  readonly #runtime: Runtime;
  readonly #until: Millis;
  #bytes: Buffer;
  #done = false;
  readonly #onData = (chunk: Buffer) => {
    // Detection is short: a copy of at most a ClientHello, and only when it came in pieces.
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    this.#socket.pause();
    this.#ask();
  };
  readonly #onEnd = () => {
    this.#finish();
    this.#decider.ended(this.#bytes);
  };
  readonly #onClose = () => {
    this.#finish();
    this.#decider.lost();
  };

  /** @param first - Bytes that were read before. */
  constructor(socket: Socket, runtime: Runtime, timeoutMs: number, decider: PeekDecider, first: Buffer = NOTHING) {
    this.#socket = socket;
    this.#decider = decider;
    this.#runtime = runtime;
    this.#until = runtime.clock.now() + timeoutMs;
    this.#bytes = first;
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("close", this.#onClose);
    runtime.wheel.arm(this);
    if (first.length > 0) this.#ask();
    if (this.#done) return;
    // Whoever looked at it before us heard the end already, and no event says it again.
    if (socket.readableEnded) this.#onEnd();
    else socket.resume();
  }

  timeoutAt(): Millis | undefined {
    return this.#done ? undefined : this.#until;
  }

  expire(_now: Millis): void {
    if (this.#done) return;
    this.#finish();
    this.#decider.timedOut(this.#bytes);
  }

  #ask(): void {
    if (this.#done) return;
    // The listeners go first: whoever takes over adds its own.
    this.#detach();
    if (this.#decider.look(this.#bytes)) {
      // Not #finish(): the socket belongs to whoever took over, and may be flowing already.
      this.#done = true;
      this.#runtime.wheel.disarm(this);
      return;
    }
    this.#attach();
    this.#socket.resume();
  }

  #attach(): void {
    this.#socket.on("data", this.#onData);
    this.#socket.on("end", this.#onEnd);
    this.#socket.on("close", this.#onClose);
  }

  #detach(): void {
    this.#socket.off("data", this.#onData);
    this.#socket.off("end", this.#onEnd);
    this.#socket.off("close", this.#onClose);
  }

  #finish(): void {
    this.#done = true;
    this.#runtime.wheel.disarm(this);
    this.#detach();
    if (!this.#socket.destroyed) this.#socket.pause();
  }
}
