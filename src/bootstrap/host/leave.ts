import type { Millis } from "../../proxy/core/clock.ts";
import type { Scheduler } from "../control/index.ts";

/** The part of the attach client that leaving needs. */
export interface Leaver {
  leave(andDelete: boolean): Promise<void>;
  stop(why?: string): void;
}

export interface LeaveOptions {
  readonly attachment: Leaver;
  /** Finishes what is under way; resolves when nothing is left, or its own limit is reached. */
  readonly drain: () => Promise<void>;
  /** Delete the ExternalWorkload as well. */
  readonly delete: boolean;
  /** How long to wait for the enroller at each step; it may be away. 15 s unless told. */
  readonly patienceMs?: Millis;
  readonly scheduler: Scheduler;
}

/** What went as it should; `false` means that the enroller did not confirm in time. */
export interface Left {
  readonly withdrawn: boolean;
  readonly deleted: boolean;
}

/**
 * Leaves without losing a request: readiness first, then a wait until clients have let go, then the drain, and only
 * after that the deletion, since policies hang on the object while requests are still being served.
 */
export async function leave(options: LeaveOptions): Promise<Left> {
  const { attachment, drain, scheduler, patienceMs = 15_000 } = options;
  const withdrawn = await within(attachment.leave(false), patienceMs, scheduler);
  await drain();
  const deleted = options.delete && (await within(attachment.leave(true), patienceMs, scheduler));
  attachment.stop("left");
  return { withdrawn, deleted };
}

function within(done: Promise<void>, ms: Millis, scheduler: Scheduler): Promise<boolean> {
  return new Promise((resolve) => {
    const cancel = scheduler.after(ms, () => resolve(false));
    void done.then(() => {
      cancel();
      resolve(true);
    });
  });
}
