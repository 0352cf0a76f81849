import type { Clock, Millis } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { TimerWheel } from "./timer-wheel.ts";

/** What every driver of a worker shares. */
export interface Runtime {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly log: Logger;
}

/** Node's monotonic clock. */
export const systemClock: Clock = {
  now: (): Millis => performance.now(),
  wallMs: () => Date.now(),
};

export function createRuntime(log: Logger, clock: Clock = systemClock): Runtime {
  const wheel = new TimerWheel(() => clock.now());
  wheel.start();
  return { clock, wheel, log };
}
