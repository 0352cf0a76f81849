/** How well a match fits within one host: four numbers, the first difference decides. Reused, not allocated. */
export class Rank {
  #a = -1;
  #b = 0;
  #c = 0;
  #d = 0;

  set(a: number, b: number, c: number, d: number): void {
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  copy(other: Rank): void {
    this.set(other.#a, other.#b, other.#c, other.#d);
  }

  /** Strictly: of equals the earlier in the list stays. */
  beats(other: Rank): boolean {
    if (this.#a !== other.#a) return this.#a > other.#a;
    if (this.#b !== other.#b) return this.#b > other.#b;
    if (this.#c !== other.#c) return this.#c > other.#c;
    return this.#d > other.#d;
  }
}
