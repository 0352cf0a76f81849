import type { Millis } from "../core/clock.ts";

/** A stream that is younger than this has just said what it knows. */
export const DOUBT_MIN_MS = 5_000;
const DOUBT_MAX_MS = 300_000;

/**
 * How often an answer that does not seem to hold may be asked for again: one that turns out to have been right is doubted
 * ever less often.
 */
export class Doubt {
  /** Times in a row that asking again brought nothing new, and when it may be done next. */
  #times = 0;
  #againAt: Millis = 0;

  /** @returns whether to ask again now. */
  cast(now: Millis): boolean {
    if (now < this.#againAt) return false;
    this.#againAt = now + Math.min(DOUBT_MAX_MS, DOUBT_MIN_MS * 2 ** this.#times);
    this.#times++;
    return true;
  }

  /** There was something new: doubt was right. */
  justified(): void {
    this.#times = 0;
  }
}
