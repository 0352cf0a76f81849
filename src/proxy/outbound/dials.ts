/**
 * How many connections are being opened at a time: a handshake is two milliseconds of CPU time in all, and those that are
 * begun together are over together.
 */
export const DIALS_AT_ONCE = 3;
/** An endpoint that has not answered for so long holds nobody up any more. */
export const YOUNG_MS = 50;
/** Between two beginnings: handshakes that begin in one turn of the loop end in one, too. */
export const GAP_MS = 3;

/**
 * Connections that are opened ahead of requests, in the order in which they were wanted and a few at a time. None waits
 * long for another to be there.
 */
export class Dials<T> {
  readonly #dial: (item: T) => boolean;
  readonly #later: (piece: () => void) => void;
  readonly #after: (ms: number, callback: () => void) => void;
  #waiting: T[] = [];
  readonly #young = new Set<T>();
  #armed = false;
  #tooSoon = false;
  readonly #more = () => {
    while (this.#mayBegin && this.#waiting.length > 0) this.#begin(this.#waiting.shift() as T);
  };
  readonly #next = () => {
    this.#tooSoon = false;
    this.#more();
  };
  readonly #aged = () => {
    this.#armed = false;
    this.#young.clear();
    this.#more();
  };

  /**
   * @param dial - Opens a connection. @returns false: there is nothing to open.
   * @param later - Does a piece of work when there is time for it.
   * @param after - A timer that keeps nobody alive.
   */
  constructor(
    dial: (item: T) => boolean,
    later: (piece: () => void) => void,
    after: (ms: number, callback: () => void) => void,
  ) {
    this.#dial = dial;
    this.#later = later;
    this.#after = after;
  }

  add(item: T): void {
    if (this.#mayBegin && this.#waiting.length === 0) this.#begin(item);
    else this.#waiting.push(item);
  }

  /** The connection is there, or has failed. */
  settled(item: T): void {
    if (this.#young.delete(item) && this.#waiting.length > 0) this.#later(this.#more);
  }

  /** What waits is not wanted any more. */
  stop(): void {
    this.#waiting = [];
    this.#young.clear();
  }

  get #mayBegin(): boolean {
    return !this.#tooSoon && this.#young.size < DIALS_AT_ONCE;
  }

  #begin(item: T): void {
    if (!this.#dial(item)) return;
    this.#young.add(item);
    this.#tooSoon = true;
    this.#after(GAP_MS, this.#next);
    if (this.#armed) return;
    this.#armed = true;
    this.#after(YOUNG_MS, this.#aged);
  }
}
