/** How a field's value is delimited. */
export const WireType = { varint: 0, fixed64: 1, bytes: 2, startGroup: 3, endGroup: 4, fixed32: 5 } as const;

const EMPTY: Buffer = Buffer.alloc(0);
// As prost, so that what one side accepts the other does too.
const MAX_GROUP_DEPTH = 100;

/**
 * Walks over one protobuf message, field by field: {@link next}, then exactly one of {@link int32}, {@link bytes},
 * {@link skip}. What is malformed ends the walk and sets {@link isBroken}; nothing throws.
 */
export class ProtobufReader {
  /** Number of the field at hand. */
  field = 0;
  isBroken = false;
  readonly #bytes: Buffer;
  #at = 0;
  #type = 0;
  /** The last varint, modulo 2^32. */
  #low = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Moves to the next field. @returns false at the end and once {@link isBroken}. */
  next(): boolean {
    if (this.isBroken || this.#at >= this.#bytes.length) return false;
    return this.#readTag() && this.#type !== WireType.endGroup ? true : this.#break();
  }

  /** A varint as int32: what is beyond 32 bits is cut off. */
  int32(): number {
    if (this.#type !== WireType.varint || !this.#readVarint()) {
      this.#break();
      return 0;
    }
    return this.#low | 0;
  }

  /** A string, bytes, or message. A view. */
  bytes(): Buffer {
    if (this.#type !== WireType.bytes || !this.#readVarint()) {
      this.#break();
      return EMPTY;
    }
    const from = this.#at;
    return this.#advance(this.#low) ? this.#bytes.subarray(from, this.#at) : EMPTY;
  }

  skip(): void {
    this.#skip(0);
  }

  #skip(depth: number): void {
    switch (this.#type) {
      case WireType.varint:
        if (!this.#readVarint()) this.#break();
        return;
      case WireType.fixed64:
        this.#advance(8);
        return;
      case WireType.bytes:
        this.bytes();
        return;
      case WireType.startGroup:
        this.#skipGroup(this.field, depth);
        return;
      case WireType.fixed32:
        this.#advance(4);
        return;
      default:
        this.#break();
    }
  }

  #skipGroup(group: number, depth: number): void {
    if (depth >= MAX_GROUP_DEPTH) {
      this.#break();
      return;
    }
    for (;;) {
      if (this.isBroken || !this.#readTag()) {
        this.#break();
        return;
      }
      if (this.#type !== WireType.endGroup) {
        this.#skip(depth + 1);
        continue;
      }
      if (this.field !== group) this.#break();
      return;
    }
  }

  #readTag(): boolean {
    if (!this.#readVarint()) return false;
    this.field = this.#low >>> 3;
    this.#type = this.#low & 7;
    return this.field > 0;
  }

  #readVarint(): boolean {
    this.#low = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) return false;
      this.#at++;
      if (shift < 32) this.#low = (this.#low | ((byte & 0x7f) << shift)) >>> 0;
      if (byte < 0x80) return shift < 63 || byte <= 1;
    }
    return false;
  }

  #advance(bytes: number): boolean {
    if (bytes > this.#bytes.length - this.#at) return this.#break();
    this.#at += bytes;
    return true;
  }

  #break(): false {
    this.isBroken = true;
    return false;
  }
}
