import { type Profiler, Session } from "node:inspector";

/**
 * Loaded before everything else in this suite: V8 tells which branches were taken only of functions that were compiled
 * while precise coverage was on, and forgets for good once it is stopped or its session ends. So this session stays.
 */
const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });

/** What was run since the last call. Asking costs as much as hundreds of inputs. */
export function takeCoverage(): Profiler.TakePreciseCoverageReturnType {
  let taken: Profiler.TakePreciseCoverageReturnType | undefined;
  // In the same thread the callback is called before post returns.
  session.post("Profiler.takePreciseCoverage", (error, result) => {
    if (error !== null) throw error;
    taken = result;
  });
  if (taken === undefined) throw new Error("no coverage");
  return taken;
}
