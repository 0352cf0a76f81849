import type { Millis } from "../../proxy/core/clock.ts";
import type { Probe, ProbeKind, Scheduler } from "../control/index.ts";
import { check } from "./check.ts";
import { ProbeState } from "./probe-state.ts";

export interface ProbesOptions {
  readonly scheduler: Scheduler;
  /** Where the application listens: 127.0.0.1 unless told. */
  readonly host?: string;
  /** Called when the verdict over all probes changes. */
  readonly changed: (verdict: ProbeVerdict) => void;
  /** Makes one check; for tests. */
  readonly check?: (kind: ProbeKind, host: string, timeoutMs: Millis) => Promise<string | undefined>;
}

export interface ProbeVerdict {
  readonly passes: boolean;
  /** Of the first probe that does not pass. */
  readonly failure: string | undefined;
}

/** Runs all probes of a workload, each at its own period, one check at a time. Without probes the verdict is good. */
export class Probes {
  readonly #options: ProbesOptions;
  #running: { readonly state: ProbeState; stop: () => void }[] = [];
  #configured = "";
  #last: string | undefined;

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  /** Replaces the probes; the same ones go on undisturbed. */
  configure(probes: readonly Probe[]): void {
    const configured = JSON.stringify(probes);
    if (configured === this.#configured) return;
    this.#configured = configured;
    this.#halt();
    this.#running = probes.map((probe) => this.#run(probe));
    this.#report();
  }

  stop(): void {
    this.#configured = "";
    this.#halt();
  }

  verdict(): ProbeVerdict {
    const failing = this.#running.find(({ state }) => !state.passes);
    return { passes: failing === undefined, failure: failing?.state.lastFailure };
  }

  #halt(): void {
    for (const { stop } of this.#running) stop();
    this.#running = [];
  }

  #run(probe: Probe): { readonly state: ProbeState; stop: () => void } {
    const { scheduler, host = "127.0.0.1" } = this.#options;
    const make = this.#options.check ?? check;
    const entry = { state: new ProbeState(probe), stop: (): void => {} };
    let stopped = false;
    const once = async (): Promise<void> => {
      const failure = await make(probe.check, host, probe.timeoutMs);
      if (stopped) return;
      entry.state.record(failure);
      this.#report();
      cancel = scheduler.after(Math.max(100, probe.periodMs), () => void once());
    };
    let cancel = scheduler.after(probe.initialDelayMs, () => void once());
    entry.stop = () => {
      stopped = true;
      cancel();
    };
    return entry;
  }

  #report(): void {
    const verdict = this.verdict();
    const text = JSON.stringify(verdict);
    if (text === this.#last) return;
    this.#last = text;
    this.#options.changed(verdict);
  }
}
