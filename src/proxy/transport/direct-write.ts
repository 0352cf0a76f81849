import type { Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { isTcp, streamBinding, type WriteRequest } from "./stream-binding.ts";

/** Of libuv's stream as Node wraps it. */
interface StreamHandle {
  /** @returns libuv's error number, 0 if there is none. */
  writeBuffer(request: WriteRequest, bytes: Buffer): number;
}

/**
 * Writes to a TCP socket past its stream, while nothing waits there: most writes are taken by the kernel at once, and then
 * cost neither a request object nor a turn of the stream's machinery. That is a twentieth of what a small request costs a hop.
 *
 * What the kernel does not take libuv keeps, in order with whatever the stream writes afterwards; the socket says `drain`
 * when it is gone.
 */
export class DirectWrite {
  readonly #socket: Socket;
  #request: WriteRequest | undefined;
  /** Given to libuv and not taken yet. */
  pendingBytes = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** @returns undefined if this is no plain TCP socket. */
  static of(socket: Socket): DirectWrite | undefined {
    return streamBinding !== undefined && isTcp(handleOf(socket)) ? new DirectWrite(socket) : undefined;
  }

  get needsDrain(): boolean {
    return this.pendingBytes > this.#socket.writableHighWaterMark;
  }

  /**
   * @param bytes - Not to be changed while {@link pendingBytes} is not 0.
   * @returns false: nothing was written; the stream has to.
   */
  write(bytes: Buffer): boolean {
    const socket = this.#socket;
    if (this.pendingBytes > 0 || socket.writableLength > 0 || socket.connecting) return false;
    const handle = handleOf(socket);
    const binding = streamBinding;
    if (handle === undefined || binding === undefined) return false;
    this.#request ??= new binding.WriteWrap();
    const request = this.#request;
    // The stream meets the same error, and knows what to do about it.
    if (handle.writeBuffer(request, bytes) !== 0) return false;
    if (binding.streamBaseState[binding.kLastWriteWasAsync] === 0) return true;
    this.#request = undefined;
    this.pendingBytes = bytes.length;
    request.buffer = bytes;
    request.oncomplete = (status) => this.#completed(status);
    return true;
  }

  #completed(status: number): void {
    this.pendingBytes = 0;
    const socket = this.#socket;
    if (socket.destroyed) return;
    if (status === 0) {
      if (!socket.writableNeedDrain) socket.emit("drain");
      return;
    }
    const code = getSystemErrorName(status);
    socket.destroy(Object.assign(new Error(`write ${code}`), { code, errno: status, syscall: "write" }));
  }
}

function handleOf(socket: Socket): StreamHandle | undefined {
  return (socket as unknown as { _handle?: StreamHandle | null })._handle ?? undefined;
}
