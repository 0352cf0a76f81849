import type { Field } from "./field.ts";

/**
 * The dynamic table of RFC 7541 §2.3.2 as a decoder needs it: first in, first out, bounded by size. Grows with what is
 * in it, since most connections never fill it.
 */
export class DynamicTable {
  /** A ring; its length is a power of two. */
  #ring: (Field | undefined)[] = new Array<Field | undefined>(16).fill(undefined);
  /** Where the next entry goes. */
  #next = 0;
  #length = 0;
  #size = 0;
  #maxSize: number;
  /** Another number after everything that changes what an index means. */
  version = 0;

  constructor(maxSize: number) {
    this.#maxSize = maxSize;
  }

  get length(): number {
    return this.#length;
  }

  /** RFC 7541 §4.1, in bytes. */
  get size(): number {
    return this.#size;
  }

  /** @param age - 0 is the newest entry. */
  get(age: number): Field | undefined {
    if (age >= this.#length) return undefined;
    return this.#ring[(this.#next - 1 - age) & (this.#ring.length - 1)];
  }

  /** RFC 7541 §4.4: an entry larger than the table empties it and is not kept. */
  add(field: Field): void {
    this.version++;
    this.#evictTo(this.#maxSize - field.size);
    if (field.size > this.#maxSize) return;
    if (this.#length === this.#ring.length) this.#grow();
    this.#ring[this.#next] = field;
    this.#next = (this.#next + 1) & (this.#ring.length - 1);
    this.#length++;
    this.#size += field.size;
  }

  /** RFC 7541 §4.3. */
  resize(maxSize: number): void {
    this.version++;
    this.#maxSize = maxSize;
    this.#evictTo(maxSize);
  }

  #evictTo(size: number): void {
    const mask = this.#ring.length - 1;
    while (this.#size > size && this.#length > 0) {
      const oldest = (this.#next - this.#length) & mask;
      this.#size -= this.#ring[oldest]?.size ?? 0;
      this.#ring[oldest] = undefined;
      this.#length--;
    }
  }

  #grow(): void {
    const larger = new Array<Field | undefined>(this.#ring.length * 2).fill(undefined);
    for (let age = 0; age < this.#length; age++) larger[this.#length - 1 - age] = this.get(age);
    this.#ring = larger;
    this.#next = this.#length;
  }
}
