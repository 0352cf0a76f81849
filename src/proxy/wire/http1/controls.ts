/**
 * Counts control characters (0x00–0x1f and 0x7f), four bytes at a time: a head in which only line ends are such
 * characters has exactly two per line, so a correct head costs no look at single bytes.
 */
class ControlCounter {
  // Making a view costs as much as counting does, and heads come in runs from one allocation.
  #memory: ArrayBufferLike = new ArrayBuffer(0);
  #words = new DataView(this.#memory);

  count(bytes: Buffer, from: number, to: number): number {
    if (this.#memory !== bytes.buffer) {
      this.#memory = bytes.buffer;
      this.#words = new DataView(bytes.buffer);
    }
    const words = this.#words;
    let at = bytes.byteOffset + from;
    const end = bytes.byteOffset + to;
    let count = 0;
    for (; at + 4 <= end; at += 4) {
      const word = words.getInt32(at, true);
      const low = word & 0x7f7f7f7f;
      // Per byte the top bit says: its low seven bits reach 0x20; they are 0x7f. No sum carries into its neighbour.
      const controls = (~((low + 0x60606060) | word) | ((low + 0x01010101) & ~word)) & 0x80808080;
      if (controls !== 0) count += Math.imul(controls >>> 7, 0x01010101) >>> 24;
    }
    for (; at < end; at++) {
      const byte = words.getUint8(at);
      if (byte < 0x20 || byte === 0x7f) count++;
    }
    return count;
  }
}

/** For heads that are read. */
export const readControls = new ControlCounter();
/** For heads that are written: the memory of a sink is another than that of what was read before. */
export const writtenControls = new ControlCounter();
