import type { ByteSink } from "../../src/proxy/core/machine.ts";

const LARGE_BYTES = 4096;

/** A sink that keeps what was written until it is taken. Large views are kept as they are, as a driver's sink does. */
export class TestSink implements ByteSink {
  buffer: Buffer = Buffer.alloc(1024);
  /** What a test says that the peer has not read. */
  pendingBytes = 0;
  #start = 0;
  #end = 0;
  #done: Buffer[] = [];

  reserve(bytes: number): number {
    if (this.#end + bytes > this.buffer.length) {
      this.#seal();
      this.buffer = Buffer.alloc(Math.max(1024, bytes * 2));
      this.#start = 0;
      this.#end = 0;
    }
    return this.#end;
  }

  commit(end: number): void {
    if (end < this.#end || end > this.buffer.length) throw new RangeError("committed outside the reserved room");
    this.#end = end;
  }

  append(view: Buffer): void {
    if (view.length >= LARGE_BYTES) {
      this.#seal();
      this.#done.push(view);
      return;
    }
    const at = this.reserve(view.length);
    view.copy(this.buffer, at);
    this.commit(at + view.length);
  }

  /** Everything written since the last call, as one buffer of its own. */
  take(): Buffer {
    this.#seal();
    const all = Buffer.concat(this.#done);
    this.#done = [];
    return all;
  }

  #seal(): void {
    if (this.#end > this.#start) this.#done.push(this.buffer.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}
