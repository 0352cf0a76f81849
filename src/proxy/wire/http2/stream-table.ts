import type { Http2Stream } from "./stream.ts";

const FIRST_SLOTS = 16;

/**
 * The open streams of a connection by identifier. A request adds one and removes it again: in a Map that churn makes the
 * runtime rebuild its table every few requests, a hundredth of what a request costs.
 *
 * Open addressing; identifiers go up by two, so streams that are open at one time lie side by side. A peer that chooses
 * them to lie on one place makes a look-up as long as its own streams are many, which is bounded.
 */
export class StreamTable {
  size = 0;
  #slots = empty(FIRST_SLOTS);
  #mask = FIRST_SLOTS - 1;

  get(id: number): Http2Stream | undefined {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let at = (id >>> 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined || stream.id === id) return stream;
    }
  }

  /** @param stream - One that is not in the table. */
  add(stream: Http2Stream): void {
    // At most half full, so that every search ends soon.
    if (++this.size * 2 > this.#slots.length) this.#rebuild(this.#slots.length * 2);
    this.#put(stream);
  }

  delete(id: number): boolean {
    const slots = this.#slots;
    const mask = this.#mask;
    let hole = (id >>> 1) & mask;
    for (; slots[hole]?.id !== id; hole = (hole + 1) & mask) if (slots[hole] === undefined) return false;
    // What stands behind moves up, unless that is before the place where its search begins.
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined) break;
      if (((at - (stream.id >>> 1)) & mask) < ((at - hole) & mask)) continue;
      slots[hole] = stream;
      hole = at;
    }
    slots[hole] = undefined;
    this.size--;
    // After a burst: what an idle connection keeps does not depend on how busy it once was.
    if (this.size === 0 && slots.length > FIRST_SLOTS * 16) this.#rebuild(FIRST_SLOTS);
    return true;
  }

  /** What is in the table now, oldest first. It may be changed meanwhile: then some of these are closed. */
  values(): Http2Stream[] {
    const streams: Http2Stream[] = [];
    for (const stream of this.#slots) if (stream !== undefined) streams.push(stream);
    return streams.sort((a, b) => a.id - b.id);
  }

  clear(): void {
    this.size = 0;
    this.#slots = empty(FIRST_SLOTS);
    this.#mask = FIRST_SLOTS - 1;
  }

  #rebuild(length: number): void {
    const before = this.#slots;
    this.#slots = empty(length);
    this.#mask = length - 1;
    for (const stream of before) if (stream !== undefined) this.#put(stream);
  }

  #put(stream: Http2Stream): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let at = (stream.id >>> 1) & mask;
    while (slots[at] !== undefined) at = (at + 1) & mask;
    slots[at] = stream;
  }
}

function empty(length: number): (Http2Stream | undefined)[] {
  return new Array<Http2Stream | undefined>(length).fill(undefined);
}
