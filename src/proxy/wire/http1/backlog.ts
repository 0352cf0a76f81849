const EMPTY: Buffer = Buffer.alloc(0);

/** Bytes set aside: one view costs no copy, more are gathered in memory that doubles, so that one-byte reads stay cheap. */
export class Backlog {
  #bytes: Buffer = EMPTY;
  #length = 0;
  #owned = false;

  get length(): number {
    return this.#length;
  }

  /** What is set aside; valid until the next call. */
  get bytes(): Buffer {
    return this.#bytes.length === this.#length ? this.#bytes : this.#bytes.subarray(0, this.#length);
  }

  /** Sets `chunk` aside from `from` up to `to`. */
  append(chunk: Buffer, from: number, to: number): void {
    const more = to - from;
    if (more === 0) return;
    if (this.#length === 0) {
      this.#bytes = chunk.subarray(from, to);
      this.#length = more;
      this.#owned = false;
      return;
    }
    const length = this.#length + more;
    if (!this.#owned || length > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(256, length * 2));
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
      this.#owned = true;
    }
    chunk.copy(this.#bytes, this.#length, from, to);
    this.#length = length;
  }

  /** Hands over what is set aside and forgets it. */
  take(): Buffer {
    const { bytes } = this;
    this.clear();
    return bytes;
  }

  clear(): void {
    this.#bytes = EMPTY;
    this.#length = 0;
    this.#owned = false;
  }
}
