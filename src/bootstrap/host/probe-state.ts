import type { Probe } from "../control/index.ts";

/** How one probe stands. Pure: results come in, a verdict goes out. */
export class ProbeState {
  readonly #probe: Pick<Probe, "successThreshold" | "failureThreshold">;
  #passes = false;
  #successes = 0;
  #failures = 0;
  #lastFailure = "has not been checked yet";

  constructor(probe: Pick<Probe, "successThreshold" | "failureThreshold">) {
    this.#probe = probe;
  }

  /** @param failure - Why the check failed; undefined if it succeeded. @returns whether the verdict changed. */
  record(failure: string | undefined): boolean {
    const before = this.#passes;
    if (failure === undefined) {
      this.#failures = 0;
      this.#successes++;
      if (this.#successes >= Math.max(1, this.#probe.successThreshold)) this.#passes = true;
    } else {
      this.#successes = 0;
      this.#failures++;
      this.#lastFailure = failure;
      if (this.#failures >= Math.max(1, this.#probe.failureThreshold)) this.#passes = false;
    }
    return this.#passes !== before;
  }

  /** Not before the first success, as for a pod: an application that has never answered is not ready. */
  get passes(): boolean {
    return this.#passes;
  }

  get lastFailure(): string {
    return this.#lastFailure;
  }
}
