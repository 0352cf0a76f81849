import { Slab } from "../../core/slab.ts";
import type { Http2Handler } from "./handler.ts";
import type { Http2Stream } from "./stream.ts";

// Less is put together before it is handed on: the frame around a byte costs whoever gets it next as much as the frame
// around a kilobyte, and all clients of an application share one connection to it.
const SMALL_BYTES = 1024;
const BLOCK_BYTES = 4096;
const SLAB_BYTES = 16 * 1024;

const slab = new Slab(SLAB_BYTES, SMALL_BYTES - 1);
const NOTHING = Buffer.alloc(0);

/**
 * Content on its way from a chunk, which is only lent, to the driver, who may keep what he gets: each piece is copied once, so
 * that it keeps alive nothing but itself.
 *
 * A stream's first small piece of a read goes on at once, as what a message of its own is; those that follow in the same
 * read go on together.
 */
export class ContentIntake {
  readonly #handler: Pick<Http2Handler, "onData">;
  /** Counts reads. */
  #read = 0;
  /** Streams that gather, possibly more than once. */
  #gathering: Http2Stream[] = [];

  constructor(handler: Pick<Http2Handler, "onData">) {
    this.#handler = handler;
  }

  /** A read begins. */
  begin(): void {
    this.#read++;
  }

  piece(stream: Http2Stream, chunk: Buffer, start: number, end: number, endStream: boolean): void {
    const follows = stream.gathered !== undefined || (stream.contentRead === this.#read && !endStream);
    if (follows && end - start < SMALL_BYTES) {
      this.#gather(stream, chunk, start, end);
      if (endStream) this.#handOn(stream, true);
      return;
    }
    if (stream.gathered !== undefined) {
      this.#handOn(stream, false);
      if (stream.closed) return;
    }
    stream.contentRead = this.#read;
    this.#handler.onData(stream, start === end ? NOTHING : slab.copy(chunk, start, end), endStream);
  }

  /** Hands on what a stream has gathered: before anything else is said of the stream. */
  settle(stream: Http2Stream): void {
    if (stream.gathered !== undefined) this.#handOn(stream, false);
  }

  /** The same for all streams: at the end of a read. */
  settleAll(): void {
    const gathering = this.#gathering;
    if (gathering.length === 0) return;
    this.#gathering = [];
    for (const stream of gathering) this.settle(stream);
  }

  #gather(stream: Http2Stream, chunk: Buffer, start: number, end: number): void {
    if (stream.gathered !== undefined && stream.gatheredBytes + end - start > BLOCK_BYTES) this.#handOn(stream, false);
    if (stream.closed) return;
    if (stream.gathered === undefined) {
      stream.gathered = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      stream.gatheredBytes = 0;
      this.#gathering.push(stream);
    }
    chunk.copy(stream.gathered, stream.gatheredBytes, start, end);
    stream.gatheredBytes += end - start;
  }

  #handOn(stream: Http2Stream, endStream: boolean): void {
    const block = stream.gathered;
    stream.gathered = undefined;
    if (block !== undefined && !stream.closed)
      this.#handler.onData(stream, block.subarray(0, stream.gatheredBytes), endStream);
  }
}
