/** How many connections are begun in one turn of the loop. Each costs half a millisecond: socket, keys, ClientHello. */
export const DIALS_PER_TURN = 4;

/**
 * Connections that are opened ahead of requests, a few per turn of the loop, in the order in which they were wanted.
 * None waits for another to be there: an endpoint that does not answer holds nobody up.
 */
export class Dials<T> {
  readonly #dial: (item: T) => void;
  readonly #later: (callback: () => void) => void;
  #waiting: T[] = [];
  #left = DIALS_PER_TURN;
  #armed = false;
  readonly #turn = () => {
    this.#armed = false;
    this.#left = DIALS_PER_TURN;
    for (const item of this.#waiting.splice(0, DIALS_PER_TURN)) this.#begin(item);
  };

  /** @param later - Calls back in a later turn of the loop. */
  constructor(dial: (item: T) => void, later: (callback: () => void) => void) {
    this.#dial = dial;
    this.#later = later;
  }

  add(item: T): void {
    if (this.#left > 0 && this.#waiting.length === 0) return this.#begin(item);
    this.#waiting.push(item);
    this.#arm();
  }

  /** What waits is not wanted any more. */
  stop(): void {
    this.#waiting = [];
  }

  #begin(item: T): void {
    this.#left--;
    this.#arm();
    this.#dial(item);
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    this.#later(this.#turn);
  }
}
