/** Reads a structure of nested lengths (RFC 8446 §3). Past an end it yields zeros and says so once asked, instead of throwing. */
export class Cursor {
  isBroken = false;
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;

  /** @param end - Not beyond `bytes`. */
  constructor(bytes: Buffer, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  /** Bytes not read yet; 0 once {@link isBroken}. */
  get left(): number {
    return this.#end - this.#at;
  }

  uint8(): number {
    const at = this.#take(1);
    return at < 0 ? 0 : this.#bytes.readUInt8(at);
  }

  uint16(): number {
    const at = this.#take(2);
    return at < 0 ? 0 : this.#bytes.readUInt16BE(at);
  }

  /** One char per byte. */
  text(bytes: number): string {
    const at = this.#take(bytes);
    return at < 0 ? "" : this.#bytes.toString("latin1", at, at + bytes);
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  /** A cursor over the next bytes, broken if they are not all there. */
  sub(bytes: number): Cursor {
    const at = this.#take(bytes);
    const cursor = new Cursor(this.#bytes, Math.max(at, 0), Math.max(at, 0) + (at < 0 ? 0 : bytes));
    cursor.isBroken = at < 0;
    return cursor;
  }

  /** @returns Where they begin, -1 if they are not all there. */
  #take(bytes: number): number {
    const at = this.#at;
    if (this.isBroken || at + bytes > this.#end) {
      this.isBroken = true;
      this.#at = this.#end;
      return -1;
    }
    this.#at = at + bytes;
    return at;
  }
}
