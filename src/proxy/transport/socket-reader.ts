import type { Socket } from "node:net";
import type { Lent } from "../core/machine.ts";
import { Slab } from "../core/slab.ts";
import { lacksCloseNotify } from "./close-notify.ts";
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

/**
 * What large reads may take of a turn of the event loop.
 *
 * - `free`: all they want. What a relay does with bytes is soon done.
 * - `shared`: no longer than {@link SHARED_MS} of one socket: mesh peers and HTTP/2 endpoints, who carry many clients' messages.
 * - `single`: no longer than {@link SINGLE_MS}, and no more than {@link SINGLE_BYTES}: HTTP/1 endpoints.
 * - `line`: and no longer than {@link LINE_MS} of all such sockets together, in order: strangers, and the host's programs.
 */
export type Pace = "free" | "shared" | "single" | "line";

/*
 * Libuv reads a socket up to 32 times in one turn as long as every read fills the buffer: two megabytes of one peer, as
 * small frames a tenth of a second. Whoever took this long waits for the next turn.
 */
const SINGLE_MS = 1;
// An answer that waits behind others in the one connection to an application must not wait for a flood as well.
const SHARED_MS = 4;
// Where nobody else's messages wait behind it, so much is enough, and the kernel's buffers stay small: what it sees read in
// one go lets it announce larger windows, and more is on the way when a slow reader is noticed (W03: 8.5 MiB, 9 to 15 without).
const SINGLE_BYTES = 64 * 1024;
// And fifty peers that flood are another tenth of a second. What they send beyond this is set aside for the turns that
// follow; small reads never wait, so a flood waits for everybody else and not the other way round. HAProxy leaves its run
// queue after 200 tasks, and nginx accepts one connection at a time, for the same.
const LINE_MS = 2;
// What is set aside takes memory, 64 KiB each; beyond these everybody waits after all.
const MAX_WAITING = 128;
// That memory is used again while somebody waits: a flood would make garbage as fast as it can send.
const spare: Buffer[] = [];
// What an honest client asks for comes in less; a read that is shorter is no flood, and is neither counted nor timed.
export const LARGE_BYTES: number = 4 * 1024;
let turn = 0;
let turnEnds = false;
let lineMs = 0;
/** Whose next turn is to come, in order. */
let waiting: SocketReader[] = [];

function awaitEndOfTurn(): void {
  if (turnEnds) return;
  turnEnds = true;
  setImmediate(endTurn);
}

function endTurn(): void {
  turn++;
  turnEnds = false;
  lineMs = 0;
  const due = waiting;
  waiting = [];
  let kept: SocketReader[] | undefined;
  for (const reader of due) {
    if (reader.mustWait) (kept ??= []).push(reader);
    else reader.proceed();
  }
  // Before those who had their turn just now and want another one.
  if (kept !== undefined) waiting = kept.concat(waiting);
  if (waiting.length > 0) awaitEndOfTurn();
  else spare.length = 0;
}

const slab = new Slab(SLAB_BYTES, SMALL_BYTES);

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
  readonly #pace: Pace;
  #released = false;
  #paused = true;
  /** What came although reading was paused: the rest of what TLS had decrypted. */
  #held: Buffer[] = [];
  /** That of it for which memory was taken that is used again. */
  #aside: Buffer | undefined;
  #ended = 0;
  #delivering = false;
  /** The turn of the last read that counted, and what it and those before it took. */
  #turn = 0;
  #turnMs = 0;
  #turnBytes = 0;
  #yielding = false;
  /** The end came without the close_notify of TLS: what was read may not be all that was sent. */
  wasCut = false;

  private constructor(
    socket: Socket,
    handle: StreamHandle,
    receive: (chunk: Buffer) => void,
    lends: boolean,
    pace: Pace,
    receiveLent: ReceiveLent | undefined,
  ) {
    this.#socket = socket;
    this.#handle = handle;
    this.#ordinary = handle.onread;
    this.#receive = receive;
    this.#lends = lends;
    this.#receiveLent = receiveLent;
    this.#pace = pace;
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
    lends: boolean,
    pace: Pace,
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
    return new SocketReader(socket, handle as StreamHandle, receive, lends, pace, receiveLent);
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

  /** Takes what was read before, as if it were read now: when reading is resumed, and in its turn. */
  putBack(chunk: Buffer): void {
    this.#held.push(chunk);
  }

  /** From here on bytes go the socket's ordinary way: into its stream. */
  release(): void {
    this.#released = true;
    for (const chunk of this.#held) this.#socket.push(chunk);
    this.#held = [];
    if (this.#ended !== 0) this.#end(this.#ended);
    else if (this.#paused) this.#start();
  }

  /** Those in line have had their time of this turn. */
  get mustWait(): boolean {
    return this.#pace === "line" && lineMs >= LINE_MS;
  }

  /** Its next turn has come. */
  proceed(): void {
    this.#yielding = false;
    if (this.#released) this.#start();
    else if (!this.#paused && !this.#delivering) this.#deliver();
  }

  #onRead(buffer: ArrayBuffer | undefined): void {
    const { streamBaseState, kReadBytesOrError } = streamBinding as StreamBinding;
    const bytes = streamBaseState[kReadBytesOrError] as number;
    if (bytes <= 0) {
      // While nothing is read only TLS can tell of an end: that of its own.
      if (bytes === UV_EOF && this.#handle.reading) this.wasCut = lacksCloseNotify(this.#handle);
      // The end waits for what came before it; an error does not.
      if (bytes === UV_EOF && (this.#paused || this.#held.length > 0) && !this.#released) this.#ended = bytes;
      else this.#ordinary.call(this.#handle, buffer);
      return;
    }
    if (this.#socket.destroyed) return;
    if (this.#released) {
      if (!this.#socket.push(copied(0, bytes))) this.#stop();
    } else if (this.#paused || this.#held.length > 0) {
      this.#stop();
      this.#held.push(copied(0, bytes));
    } else if (bytes >= LARGE_BYTES) {
      if (!this.mustWait || waiting.length >= MAX_WAITING)
        this.#pass(this.#lends ? SHARED.subarray(0, bytes) : copied(0, bytes));
      else {
        if (this.#lends) this.#aside = setAside(bytes);
        this.#held.push(this.#aside ?? copied(0, bytes));
        this.#yield();
      }
    } else if (this.#lends) this.#receive(SHARED.subarray(0, bytes));
    else if (this.#receiveLent === undefined || !this.#receiveLent(LENT, bytes)) this.#receive(copied(0, bytes));
  }

  #yield(): void {
    if (this.#yielding) return;
    this.#yielding = true;
    awaitEndOfTurn();
    waiting.push(this);
    this.#stop();
  }

  /** Hands a chunk on, and ends the socket's turn if that took too long. */
  #pass(chunk: Buffer): void {
    if (this.#pace === "free" || chunk.length < LARGE_BYTES) return this.#receive(chunk);
    awaitEndOfTurn();
    if (this.#turn !== turn) {
      this.#turn = turn;
      this.#turnMs = 0;
      this.#turnBytes = 0;
    }
    const began = performance.now();
    this.#receive(chunk);
    const took = performance.now() - began;
    this.#turnMs += took;
    this.#turnBytes += chunk.length;
    if (this.#pace === "line") lineMs += took;
    const hadShare =
      this.#pace === "shared"
        ? this.#turnMs >= SHARED_MS
        : this.#turnMs >= SINGLE_MS || this.#turnBytes >= SINGLE_BYTES;
    if (hadShare || this.mustWait) this.#yield();
  }

  #deliver(): void {
    this.#delivering = true;
    while (!this.#paused && !this.#released && this.#held.length > 0 && !this.#yielding) {
      if ((this.#held[0] as Buffer).length >= LARGE_BYTES && this.mustWait) this.#yield();
      else {
        const chunk = this.#held.shift() as Buffer;
        this.#pass(chunk);
        if (chunk === this.#aside) this.#giveBack(chunk);
      }
    }
    this.#delivering = false;
    if (this.#paused || this.#released || this.#yielding || this.#socket.destroyed) return;
    if (this.#ended !== 0) this.#end(this.#ended);
    else this.#start();
  }

  /** Nobody keeps anything of what was lent. */
  #giveBack(chunk: Buffer): void {
    this.#aside = undefined;
    if (waiting.length > 0 && spare.length < MAX_WAITING) spare.push(Buffer.from(chunk.buffer));
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

/** A copy of what was read, by somebody whose turn it is not. */
function setAside(bytes: number): Buffer {
  const block = spare.pop() ?? Buffer.allocUnsafeSlow(SHARED.length);
  SHARED.copy(block, 0, 0, bytes);
  return block.subarray(0, bytes);
}

function copied(from: number, to: number): Buffer {
  return slab.copy(SHARED, from, to);
}
