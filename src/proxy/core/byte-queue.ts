// Below this a copy is cheaper than the object that a view is.
const SMALL_BYTES = 1024;
// A view that keeps more than so many times its own size alive is copied out of its chunk.
const MAX_WASTE = 4;
const BLOCK_BYTES = 4096;

/**
 * Content set aside in order. A view of most of its chunk is kept as it is; what is small, or a small part of a large
 * chunk, is copied into blocks of its own, so that a peer who sends octet by octet cannot make us keep a chunk, or an
 * object, for each of them.
 */
export class ByteQueue {
  /** What is kept, oldest first; whoever sends takes from the front. */
  readonly views: Buffer[] = [];
  /** The block that ends in the last view, undefined if that is somebody else's. */
  #block: Buffer | undefined;
  #used = 0;

  push(view: Buffer): void {
    const { length } = view;
    if (length === 0) return;
    if (length >= SMALL_BYTES && length * MAX_WASTE >= view.buffer.byteLength) {
      this.views.push(view);
      this.#block = undefined;
      return;
    }
    const block = this.#block;
    // The last view may have been sent and taken away in the meantime.
    if (block !== undefined && this.views.length > 0 && this.#used + length <= block.length) {
      const start = this.#used;
      view.copy(block, start);
      this.#used += length;
      const last = this.views[this.views.length - 1] as Buffer;
      this.views[this.views.length - 1] = block.subarray(last.byteOffset - block.byteOffset, this.#used);
      return;
    }
    const fresh = Buffer.allocUnsafeSlow(length > BLOCK_BYTES / 2 ? length : BLOCK_BYTES);
    view.copy(fresh, 0);
    this.#block = fresh;
    this.#used = length;
    this.views.push(fresh.length === length ? fresh : fresh.subarray(0, length));
  }
}
