import type { Clock, Millis } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { HttpDate } from "./date.ts";
import { TimerWheel } from "./timer-wheel.ts";
import { Turns } from "./turns.ts";

/** What every driver of a worker shares. */
export interface Runtime {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly turns: Turns;
  readonly date: HttpDate;
  readonly log: Logger;
  /** How long nothing may move in a connection that is copied, ms; undefined: for ever. */
  readonly relayIdleMs: Millis | undefined;
}

// `performance` counts from the start of its thread, the kernel's clock from the same moment for all: what one worker
// writes into shared memory, such as when a bucket is full, has to mean the same to another.
const THREAD_STARTED_AT = Number(process.hrtime.bigint()) / 1e6 - performance.now();

let held = Number.NaN;

/** The monotonic clock, the same in all threads. */
export const systemClock: Clock = {
  now: (): Millis => (held > 0 ? held : performance.now() + THREAD_STARTED_AT),
  hold() {
    held = performance.now() + THREAD_STARTED_AT;
    return held;
  },
  release() {
    held = Number.NaN;
  },
  wallMs: () => Date.now(),
};

export function createRuntime(log: Logger, clock: Clock = systemClock, relayIdleMs?: Millis): Runtime {
  const wheel = new TimerWheel(() => clock.now());
  wheel.start();
  const turns = new Turns(() => performance.now(), setImmediate);
  return { clock, wheel, turns, date: new HttpDate(clock), log, relayIdleMs };
}
