import type { Socket } from "node:net";
import type { Lent } from "../core/machine.ts";
import { type StreamBinding, streamBinding } from "./stream-binding.ts";

// The kernel's reads go here, for all sockets of the thread in turn; nobody keeps a view of it.
const SHARED: Buffer = Buffer.allocUnsafeSlow(64 * 1024);
const LENT: Lent = { bytes: SHARED, view: new DataView(SHARED.buffer), own: copied };
// What was read is handed on in memory of its own: small pieces share a slab, so that a read costs no allocation.
const SLAB_BYTES = 64 * 1024;
const SMALL_BYTES = 8 * 1024;

/** @returns false: nothing was taken. */
type ReceiveLent = (lent: Lent, length: number) => boolean;

/** The part of libuv's stream as Node wraps it that is used here. */
interface StreamHandle {
  reading: boolean;
  onread: (this: StreamHandle, buffer: ArrayBuffer | undefined) => void;
  useUserBuffer(buffer: Buffer): void;
  readStart(): number;
  readStop(): number;
}

/*
 * Libuv reads a socket up to 32 times in one turn as long as every read fills the buffer: two megabytes of one peer, as
 * small frames a tenth of a second, before anybody else's turn comes, and before a full socket on the other side is noticed.
 * Whoever had this much waits for the next turn.
 */
const TURN_BYTES = 64 * 1024;
// A read that is shorter was most likely the last one, and is not counted.
const COUNTED_BYTES = 16 * 1024;
let turn = 0;
let turnEnds = false;
const yielded: SocketReader[] = [];

function endTurn(): void {
  turn++;
  turnEnds = false;
  // Reading begins with the next look at the sockets, so nobody is added meanwhile.
  for (const reader of yielded) reader.proceed();
  yielded.length = 0;
}

let slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabUsed = 0;

/**
 * Reads a socket as `net.connect` does with its option `onread`, which sockets that were accepted and TLS sockets lack:
 * without a buffer of 64 KiB, a stream event and their garbage for every read. That is an eighth of what a small request
 * costs a hop.
 *
 * Bytes do not pass the socket's own stream; its end, its errors and its close do.
 */
export class SocketReader {
  readonly #socket: Socket;
  readonly #handle: StreamHandle;
  readonly #ordinary: StreamHandle["onread"];
  readonly #receive: (chunk: Buffer) => void;
  readonly #lends: boolean;
  readonly #receiveLent: ReceiveLent | undefined;
  #released = false;
  #paused = true;
  /** What came although reading was paused: the rest of what TLS had decrypted. */
  #held: Buffer[] = [];
  #ended = 0;
  #delivering = false;
  /** The turn of the last read that counted, and what came in it so far, bytes. */
  #turn = 0;
  #turnBytes = 0;
  #yielding = false;

  private constructor(
    socket: Socket,
    handle: StreamHandle,
    receive: (chunk: Buffer) => void,
    lends: boolean,
    receiveLent: ReceiveLent | undefined,
  ) {
    this.#socket = socket;
    this.#handle = handle;
    this.#ordinary = handle.onread;
    this.#receive = receive;
    this.#lends = lends;
    this.#receiveLent = receiveLent;
    handle.useUserBuffer(SHARED);
    handle.onread = (buffer) => this.#onRead(buffer);
  }

  /**
   * Takes over the reading of a socket, paused; its stream must flow, so that its end is told.
   * @param lends - What is read is valid only while `receive` is called, and costs no copy.
   * @param receiveLent - Asked first, see {@link Machine.receiveLent}.
   * @returns undefined if this socket can only be read by its `data` events: it is no socket of the system, or some of its
   * bytes wait in its stream.
   */
  static attach(
    socket: Socket,
    receive: (chunk: Buffer) => void,
    lends = false,
    receiveLent?: ReceiveLent,
  ): SocketReader | undefined {
    const handle = (socket as unknown as { _handle?: Partial<StreamHandle> | null })._handle;
    if (
      streamBinding === undefined ||
      typeof handle?.useUserBuffer !== "function" ||
      typeof handle.onread !== "function"
    ) {
      return undefined;
    }
    if (socket.destroyed || socket.readableEnded || socket.readableLength > 0) return undefined;
    return new SocketReader(socket, handle as StreamHandle, receive, lends, receiveLent);
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#stop();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#yielding) return;
    if (this.#held.length === 0 && this.#ended === 0) this.#start();
    // Like a stream's: never within the call of whoever resumes.
    else if (!this.#delivering) {
      this.#delivering = true;
      process.nextTick(() => this.#deliver());
    }
  }

  /** From here on bytes go the socket's ordinary way: into its stream. */
  release(): void {
    this.#released = true;
    for (const chunk of this.#held) this.#socket.push(chunk);
    this.#held = [];
    if (this.#ended !== 0) this.#end(this.#ended);
    else if (this.#paused) this.#start();
  }

  /** Its next turn has come. */
  proceed(): void {
    this.#yielding = false;
    if (this.#released) this.#start();
    else if (!this.#paused) {
      this.#paused = true;
      this.resume();
    }
  }

  #onRead(buffer: ArrayBuffer | undefined): void {
    const { streamBaseState, kReadBytesOrError } = streamBinding as StreamBinding;
    const bytes = streamBaseState[kReadBytesOrError] as number;
    if (bytes <= 0) {
      // The end waits for what came before it; an error does not.
      if (bytes === UV_EOF && (this.#paused || this.#held.length > 0) && !this.#released) this.#ended = bytes;
      else this.#ordinary.call(this.#handle, buffer);
      return;
    }
    if (this.#socket.destroyed) return;
    // What a relay does with bytes is soon done, however many come at once.
    if (bytes >= COUNTED_BYTES && !this.#lends) this.#count(bytes);
    if (this.#released) {
      if (!this.#socket.push(copied(0, bytes))) this.#stop();
    } else if (this.#paused || this.#held.length > 0) {
      this.#stop();
      this.#held.push(copied(0, bytes));
    } else if (this.#lends) this.#receive(SHARED.subarray(0, bytes));
    else if (this.#receiveLent === undefined || !this.#receiveLent(LENT, bytes)) this.#receive(copied(0, bytes));
  }

  #count(bytes: number): void {
    if (!turnEnds) {
      turnEnds = true;
      setImmediate(endTurn);
    }
    if (this.#turn !== turn) {
      this.#turn = turn;
      this.#turnBytes = 0;
    }
    this.#turnBytes += bytes;
    if (this.#turnBytes < TURN_BYTES || this.#yielding) return;
    this.#yielding = true;
    yielded.push(this);
    this.#stop();
  }

  #deliver(): void {
    while (!this.#paused && !this.#released && this.#held.length > 0) this.#receive(this.#held.shift() as Buffer);
    this.#delivering = false;
    if (this.#paused || this.#released || this.#socket.destroyed) return;
    if (this.#ended !== 0) this.#end(this.#ended);
    else this.#start();
  }

  #end(code: number): void {
    const { streamBaseState, kReadBytesOrError } = streamBinding as StreamBinding;
    this.#ended = 0;
    streamBaseState[kReadBytesOrError] = code;
    this.#ordinary.call(this.#handle, undefined);
  }

  #start(): void {
    if (this.#socket.destroyed) return;
    this.#handle.reading = true;
    this.#handle.readStart();
  }

  #stop(): void {
    if (this.#socket.destroyed) return;
    this.#handle.reading = false;
    this.#handle.readStop();
  }
}

// libuv's number for the peer's half-close, the same on every Unix.
const UV_EOF = -4095;

function copied(from: number, to: number): Buffer {
  const length = to - from;
  if (length > SMALL_BYTES) {
    const own = Buffer.allocUnsafeSlow(length);
    SHARED.copy(own, 0, from, to);
    return own;
  }
  if (slabUsed + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabUsed = 0;
  }
  const at = slabUsed;
  slabUsed += length;
  SHARED.copy(slab, at, from, to);
  return slab.subarray(at, slabUsed);
}
