import type { Clock, Millis } from "../../proxy/core/clock.ts";

/** Time that can be moved in tests. */
export interface Scheduler extends Clock {
  /**
   * Runs once, after `ms` (also beyond the 24.8 days at which a plain timer overflows). Does not keep the process alive.
   * @returns the way to cancel; harmless after the run.
   */
  after(ms: Millis, run: () => void): () => void;
  /** Uniform from [0, 1). */
  rng(): number;
}

// setTimeout fires at once above 2^31-1 ms.
const MAX_TIMER_MS = 2 ** 31 - 1;

export const realScheduler: Scheduler = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  rng: () => Math.random(),
  after(ms, run) {
    let left = Math.max(0, ms);
    let timer: NodeJS.Timeout;
    const arm = () => {
      const step = Math.min(left, MAX_TIMER_MS);
      left -= step;
      timer = setTimeout(() => (left > 0 ? arm() : run()), step);
      timer.unref();
    };
    arm();
    return () => clearTimeout(timer);
  },
};

/** Repeats until cancelled, `ms` after the end of each run. */
export function every(scheduler: Scheduler, ms: Millis, run: () => void): () => void {
  let cancel = (): void => {};
  let stopped = false;
  const arm = () => {
    cancel = scheduler.after(ms, () => {
      run();
      if (!stopped) arm();
    });
  };
  arm();
  return () => {
    stopped = true;
    cancel();
  };
}
