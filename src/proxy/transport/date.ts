import type { Clock, Millis } from "../core/clock.ts";
import { H, type HeaderList } from "../core/header.ts";

// A step of the wall clock shows after this long at most.
const LOOK_MS = 100;

/** The date as responses carry it, written anew once per second. */
export class HttpDate {
  readonly #clock: Clock;
  #lookAt: Millis = Number.NEGATIVE_INFINITY;
  #second = Number.NaN;
  #text = "";

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Gives a final response the date it lacks: whoever has a clock and passes on a response without one adds it, as
   * Linkerd's HTTP library does.
   * @see RFC 9110 §6.6.1
   */
  addTo(headers: HeaderList): void {
    if (headers.has(H.date)) return;
    const now = this.#clock.now();
    if (now >= this.#lookAt) this.#look(now);
    headers.add(H.date, this.#text);
  }

  #look(now: Millis): void {
    const wallMs = this.#clock.wallMs();
    this.#lookAt = now + Math.min(LOOK_MS, 1_000 - (wallMs % 1_000));
    const second = Math.floor(wallMs / 1_000);
    if (second === this.#second) return;
    this.#second = second;
    // ECMAScript's form is RFC 9110 §5.6.7's IMF-fixdate.
    this.#text = new Date(second * 1_000).toUTCString();
  }
}
