import type { Endpoint } from "../core/endpoint.ts";

/** How many endpoints are taken at a time: some microseconds each. */
export const SLICE = 32;

interface Change {
  readonly add: readonly Endpoint[];
  readonly remove: readonly string[];
}

/**
 * Changes of an endpoint set, handed on in their order and a slice at a time: a service of 5,000 endpoints must not stop
 * the requests of all others. What fits into one slice is handed on at once.
 */
export class Slices {
  readonly #take: (add: readonly Endpoint[], remove: readonly string[]) => void;
  readonly #later: (piece: () => void) => void;
  #waiting: Change[] = [];
  /** How much of the first change has been handed on, additions first. */
  #done = 0;
  /** Keys whose removal waits. */
  readonly #leaving = new Set<string>();
  readonly #next = () => {
    const change = this.#waiting[0];
    if (change === undefined) return;
    const { add, remove } = change;
    const from = this.#done;
    // Never both at once: a change is told of as additions or removals.
    const isAdding = from < add.length;
    const to = Math.min(from + SLICE, isAdding ? add.length : add.length + remove.length);
    this.#done = to;
    if (to === add.length + remove.length) {
      this.#waiting.shift();
      this.#done = 0;
    }
    if (this.#waiting.length > 0) this.#later(this.#next);
    if (isAdding) return this.#take(add.slice(from, to), []);
    const keys = remove.slice(from - add.length, to - add.length);
    this.#take([], keys);
    for (const key of keys) this.#leaving.delete(key);
  };

  /** @param later - Does a piece of work when there is time for it. */
  constructor(take: (add: readonly Endpoint[], remove: readonly string[]) => void, later: (piece: () => void) => void) {
    this.#take = take;
    this.#later = later;
  }

  /** Whether something has been said that has not been handed on yet. */
  get isBehind(): boolean {
    return this.#waiting.length > 0;
  }

  /** Whether an endpoint that is still there is about to be removed. */
  isLeaving(key: string): boolean {
    return this.#leaving.has(key);
  }

  /** The arrays are kept until all of them is handed on. New ones come first: a renewed set does not run empty on the way. */
  push(add: readonly Endpoint[], remove: readonly string[]): void {
    if (!this.isBehind && add.length + remove.length <= SLICE) return this.#take(add, remove);
    const wasBehind = this.isBehind;
    // Also where only the state of discovery has changed: that, too, is told after what came before.
    this.#waiting.push({ add, remove });
    for (const key of remove) this.#leaving.add(key);
    // The first slice at once: requests may be waiting for it.
    if (!wasBehind) this.#next();
  }

  /** What waits is not wanted any more. */
  stop(): void {
    this.#waiting = [];
    this.#done = 0;
    this.#leaving.clear();
  }
}
