import type { Rng } from "../core/clock.ts";

/** Things of which any will do: added, taken out and drawn in constant time. */
export class Spares<T> {
  readonly #rng: Rng;
  readonly #items: T[] = [];
  readonly #at = new Map<T, number>();

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  add(item: T): void {
    if (this.#at.has(item)) return;
    this.#at.set(item, this.#items.push(item) - 1);
  }

  delete(item: T): void {
    const at = this.#at.get(item);
    if (at === undefined) return;
    this.#at.delete(item);
    const last = this.#items.pop() as T;
    if (last === item) return;
    this.#items[at] = last;
    this.#at.set(last, at);
  }

  /** Takes one out by chance; undefined: there is none. */
  draw(): T | undefined {
    const item = this.#items[Math.floor(this.#rng() * this.#items.length)];
    if (item !== undefined) this.delete(item);
    return item;
  }

  clear(): void {
    this.#items.length = 0;
    this.#at.clear();
  }
}
