import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { DirectWrite } from "./direct-write.ts";
import { flushAtEndOfTurn } from "./end-of-turn.ts";

// One write takes what one turn brings: TLS hands on records of 16 KiB, four for each read of the kernel's.
const BLOCK_BYTES = 64 * 1024;
// Kept for the next turn: as many relays as write in one turn, not more memory than 2 MiB.
const MAX_POOLED = 32;
// Less than this is not worth the rest of a block while it waits in a stream.
const WORTH_BYTES = BLOCK_BYTES / 2;

const pool: Buffer[] = [];

/**
 * Writes to one end of a relay what was read from the other, without keeping the memory that it was read into: TLS encrypts
 * it at once, and for the kernel the chunks of a turn are gathered in a block that the next turn uses again. So a relay
 * makes no garbage, which had cost it a tenth, most of that in the collector's own threads.
 */
export class RelayWriter {
  readonly #socket: Socket;
  readonly #direct: DirectWrite | undefined;
  #block: Buffer | undefined;
  #used = 0;
  #dirty = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#direct = DirectWrite.of(socket);
  }

  /**
   * @param view - Valid during the call.
   * @returns false: read no more until the socket's `drain`.
   */
  write(view: Buffer): boolean {
    const socket = this.#socket;
    if (this.#direct === undefined) {
      // Node's TLS encrypts a single buffer within the call, or copies it; what has to wait for another one is kept.
      const isTaken = socket instanceof TLSSocket && socket.writableLength === 0 && !socket.connecting;
      return socket.write(isTaken ? view : Buffer.from(view));
    }
    for (let at = 0; at < view.length; ) {
      this.#block ??= pool.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
      const copied = view.copy(this.#block, this.#used, at);
      at += copied;
      this.#used += copied;
      if (this.#used === BLOCK_BYTES) this.flush();
    }
    if (this.#used > 0 && !this.#dirty) this.#markDirty();
    return !this.#isFull;
  }

  flush(): void {
    this.#dirty = false;
    const block = this.#block;
    if (block === undefined) return;
    const bytes = block.subarray(0, this.#used);
    this.#block = undefined;
    this.#used = 0;
    // What is not free again belongs to the pending write.
    if (this.#pass(bytes) && pool.length < MAX_POOLED) pool.push(block);
  }

  /** Sends what is there, then a FIN. */
  end(): void {
    this.flush();
    this.#socket.end();
  }

  /** @returns whether the memory is free again. */
  #pass(bytes: Buffer): boolean {
    const socket = this.#socket;
    const direct = this.#direct as DirectWrite;
    if (socket.destroyed || socket.writableEnded) return true;
    if (direct.write(bytes)) return direct.pendingBytes === 0;
    const isSmall = bytes.length < WORTH_BYTES;
    socket.write(isSmall ? Buffer.from(bytes) : bytes);
    return isSmall;
  }

  get #isFull(): boolean {
    return this.#socket.writableNeedDrain || (this.#direct as DirectWrite).pendingBytes > 0;
  }

  #markDirty(): void {
    this.#dirty = true;
    flushAtEndOfTurn(this);
  }
}
