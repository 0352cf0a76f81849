import type { Clock, Millis } from "../../src/proxy/core/clock.ts";
import type { Timers } from "../../src/proxy/discovery/index.ts";

interface Pending {
  readonly at: Millis;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that is moved by hand, with the timers that hang on it. */
export class FakeTime implements Clock, Timers {
  #now: Millis = 1_000;
  #order = 0;
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
    const pending = { at: this.#now + ms, order: this.#order++, callback };
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
      const next = this.#pending.toSorted((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined || next.at > end) break;
      this.#pending = this.#pending.filter((other) => other !== next);
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
