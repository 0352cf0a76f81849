import type { Millis } from "../core/clock.ts";

/** How long work that can wait may keep one turn of the loop: a request in between waits this much longer. */
export const TURN_MS: Millis = 2;

/**
 * Work that can wait, such as taking in thousands of endpoints or closing the connections of those that are gone: done in
 * pieces, in order, and no more per turn of the loop than requests can bear, whoever wants it done.
 */
export class Turns {
  readonly #now: () => Millis;
  readonly #later: (callback: () => void) => void;
  #waiting: (() => void)[] = [];
  readonly #turn = () => {
    const until = this.#now() + TURN_MS;
    let done = 0;
    // What a piece adds goes to the end of the line: nobody takes all turns for himself.
    while (done < this.#waiting.length) {
      this.#waiting[done++]?.();
      if (this.#now() >= until) break;
    }
    this.#waiting = this.#waiting.slice(done);
    if (this.#waiting.length > 0) this.#later(this.#turn);
  };

  /**
   * @param now - Must move while a turn lasts.
   * @param later - Calls back in a later turn of the loop.
   */
  constructor(now: () => Millis, later: (callback: () => void) => void) {
    this.#now = now;
    this.#later = later;
  }

  /** @param piece - Some microseconds of work, a millisecond at most; must not throw. */
  readonly add = (piece: () => void): void => {
    this.#waiting.push(piece);
    if (this.#waiting.length === 1) this.#later(this.#turn);
  };
}
