import type { Clock, Millis } from "../../src/proxy/core/clock.ts";
import type { Timers } from "../../src/proxy/discovery/index.ts";

interface Pending {
  readonly at: Millis;
  readonly callback: () => void;
}

/** Time that is moved by hand, with the timers that hang on it. */
export class FakeTime implements Clock, Timers {
  #now: Millis = 1_000;
  #pending: Pending[] = [];
  /** What the wall clock is ahead of the monotonic one. */
  wallOffsetMs = 1_700_000_000_000;

  now(): Millis {
    return this.#now;
  }

  wallMs(): number {
    return this.wallOffsetMs + this.#now;
  }

  after(ms: Millis, callback: () => void): () => void {
    const pending = { at: this.#now + ms, callback };
    this.#pending.push(pending);
    return () => {
      this.#pending = this.#pending.filter((other) => other !== pending);
    };
  }

  /** Timers that are set. */
  get armed(): number {
    return this.#pending.length;
  }

  /** Moves time on; what falls due on the way is called in order. */
  advance(ms: Millis): void {
    const end = this.#now + ms;
    for (;;) {
      // The earliest; of several at one time the one that was set first, which stands first.
      let next: Pending | undefined;
      for (const pending of this.#pending) if (next === undefined || pending.at < next.at) next = pending;
      if (next === undefined || next.at > end) break;
      this.#pending.splice(this.#pending.indexOf(next), 1);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }

  /** Time passes in which nothing runs: the process was stopped, or its machine had other things to do. */
  stall(ms: Millis): void {
    this.#now += ms;
    this.advance(0);
  }
}
