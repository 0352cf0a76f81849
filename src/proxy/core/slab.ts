/**
 * Copies of what is only lent, to be kept. Small ones share a block, so that one costs a view and no allocation; a large one
 * has memory of its own, so that it keeps nothing else alive.
 */
export class Slab {
  readonly #blockBytes: number;
  readonly #maxShared: number;
  #block: Buffer;
  #used = 0;

  /** @param maxShared - Bytes of the largest copy that shares a block. */
  constructor(blockBytes: number, maxShared: number) {
    this.#blockBytes = blockBytes;
    this.#maxShared = maxShared;
    this.#block = Buffer.allocUnsafeSlow(blockBytes);
  }

  /** A copy of [from, to). */
  copy(bytes: Buffer, from: number, to: number): Buffer {
    const length = to - from;
    if (length > this.#maxShared) {
      const own = Buffer.allocUnsafeSlow(length);
      bytes.copy(own, 0, from, to);
      return own;
    }
    if (this.#used + length > this.#blockBytes) {
      this.#block = Buffer.allocUnsafeSlow(this.#blockBytes);
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += length;
    bytes.copy(this.#block, at, from, to);
    return this.#block.subarray(at, this.#used);
  }
}
