import type { Scheduler } from "../../src/bootstrap/control/index.ts";
import { FakeTime } from "./time.ts";

/** Time moved by hand, and chance that always says one half. */
export class FakeScheduler extends FakeTime implements Scheduler {
  rng(): number {
    return 0.5;
  }

  /** Moves time on in steps, letting promises run in between. */
  async pass(ms: number, stepMs = 100): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      await settle();
      this.advance(Math.min(stepMs, left));
    }
    await settle();
  }
}

/** Lets everything run that waits for promises alone. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 50; i++) await Promise.resolve();
}
