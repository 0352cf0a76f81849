import type { Endpoint } from "../core/endpoint.ts";

/** How many endpoints are taken in one turn of the loop: some 15 µs each, so that requests wait a few ms at most. */
export const SLICE = 128;

interface Change {
  readonly add: readonly Endpoint[];
  readonly remove: readonly string[];
}

/**
 * Changes of an endpoint set, handed on in their order and a slice per turn of the loop: a service of 5,000 endpoints
 * must not stop the requests of all others. What fits into one slice is handed on at once.
 */
export class Slices {
  readonly #take: (add: readonly Endpoint[], remove: readonly string[]) => void;
  readonly #later: (callback: () => void) => void;
  #waiting: Change[] = [];
  readonly #next = () => {
    const change = this.#waiting.shift();
    if (change === undefined) return;
    if (this.#waiting.length > 0) this.#later(this.#next);
    this.#take(change.add, change.remove);
  };

  /** @param later - Calls back in a later turn of the loop. */
  constructor(
    take: (add: readonly Endpoint[], remove: readonly string[]) => void,
    later: (callback: () => void) => void,
  ) {
    this.#take = take;
    this.#later = later;
  }

  /** Whether something has been said that has not been handed on yet. */
  get isBehind(): boolean {
    return this.#waiting.length > 0;
  }

  /** The arrays are not kept. New ones come first: a set that is renewed does not run empty on the way. */
  push(add: readonly Endpoint[], remove: readonly string[]): void {
    if (!this.isBehind && add.length + remove.length <= SLICE) return this.#take(add, remove);
    const wasBehind = this.isBehind;
    for (let i = 0; i < add.length; i += SLICE) this.#waiting.push({ add: add.slice(i, i + SLICE), remove: [] });
    for (let i = 0; i < remove.length; i += SLICE) this.#waiting.push({ add: [], remove: remove.slice(i, i + SLICE) });
    // Only the state of discovery has changed: that, too, is told after what came before.
    if (add.length + remove.length === 0) this.#waiting.push({ add, remove });
    // The first slice at once: requests may be waiting for it.
    if (!wasBehind) this.#next();
  }

  /** What waits is not wanted any more. */
  stop(): void {
    this.#waiting = [];
  }
}
