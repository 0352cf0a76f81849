import type { Scheduler } from "../bootstrap/control/index.ts";
import type { Millis } from "../proxy/core/clock.ts";
import type { WorkloadIdentity } from "../proxy/core/identity.ts";

/**
 * How an identity stands at one moment. One that is not valid yet counts as valid: it is this host's clock that is
 * behind, and peers judge by theirs.
 */
export type Validity =
  | { readonly kind: "none" }
  | { readonly kind: "valid"; readonly leftMs: Millis }
  | { readonly kind: "expired"; readonly sinceMs: Millis };

/** @param wallMs - Now, Unix milliseconds. */
export function validityOf(identity: Pick<WorkloadIdentity, "notAfterMs"> | undefined, wallMs: number): Validity {
  if (identity === undefined) return { kind: "none" };
  const { notAfterMs } = identity;
  // RFC 5280 §4.1.2.5: the period includes its last second.
  return wallMs > notAfterMs
    ? { kind: "expired", sinceMs: wallMs - notAfterMs }
    : { kind: "valid", leftMs: notAfterMs - wallMs };
}

// A suspended machine or a moved clock makes longer timers lie.
const LOOK_MS = 30_000;

/** Notices when an identity runs out or comes back, also if only the clock was moved. */
export class ValidityWatch {
  readonly #identity: () => WorkloadIdentity | undefined;
  readonly #scheduler: Scheduler;
  readonly #changed: (validity: Validity) => void;
  #last: Validity["kind"] | undefined;
  #cancel: () => void = () => {};

  /** @param changed - Called with the first judgement too, and then whenever its kind is another. */
  constructor(
    identity: () => WorkloadIdentity | undefined,
    scheduler: Scheduler,
    changed: (validity: Validity) => void,
  ) {
    this.#identity = identity;
    this.#scheduler = scheduler;
    this.#changed = changed;
  }

  /** Judges now, and from now on. To be called again when there is another identity. */
  look(): void {
    const validity = this.now();
    const waitMs = validity.kind === "valid" ? validity.leftMs + 1 : LOOK_MS;
    this.#cancel();
    this.#cancel = this.#scheduler.after(Math.min(waitMs, LOOK_MS), () => this.look());
    if (validity.kind === this.#last) return;
    this.#last = validity.kind;
    this.#changed(validity);
  }

  now(): Validity {
    return validityOf(this.#identity(), this.#scheduler.wallMs());
  }

  stop(): void {
    this.#cancel();
  }
}
