import type { IdentitySource, WorkloadIdentity } from "../../proxy/core/identity.ts";
import { BootstrapError, type Log, type MeshNames, type Scheduler, type WorkloadName } from "../control/index.ts";
import { renew } from "./renew.ts";
import { renewalDelayMs } from "./renewal.ts";

export interface EnrolledIdentityOptions {
  readonly identity: WorkloadIdentity;
  readonly workload: WorkloadName;
  readonly mesh: MeshNames;
  /** Read at every attempt: the order may change, the last one that worked first. */
  readonly enrollers: () => readonly string[];
  readonly version: string;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Keeps a new generation. What it throws is logged and tried again with the next change: a full disk stops nothing. */
  readonly save: (identity: WorkloadIdentity) => void;
}

/** How the renewal is doing, for status and metrics. */
export interface RenewalStatus {
  readonly failures: number;
  readonly lastError: string | undefined;
  /** Unix milliseconds. */
  readonly nextAttemptAtMs: number;
}

/** The identity of an enrolled host: renews itself over mTLS, takes new trust anchors, tells listeners. */
export class EnrolledIdentity implements IdentitySource {
  readonly #options: EnrolledIdentityOptions;
  readonly #listeners = new Set<(identity: WorkloadIdentity) => void>();
  #identity: WorkloadIdentity | undefined;
  #failures = 0;
  #lastError: string | undefined;
  #nextAttemptAtMs = 0;
  #saved = true;
  #running = false;
  #cancel: () => void = () => {};

  constructor(options: EnrolledIdentityOptions) {
    this.#options = options;
    this.#identity = options.identity;
  }

  /** Begins to renew. */
  start(): void {
    this.#running = true;
    this.#arm();
  }

  stop(): void {
    this.#running = false;
    this.#cancel();
  }

  current(): WorkloadIdentity | undefined {
    return this.#identity;
  }

  subscribe(listener: (identity: WorkloadIdentity) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  status(): RenewalStatus {
    return { failures: this.#failures, lastError: this.#lastError, nextAttemptAtMs: this.#nextAttemptAtMs };
  }

  /** Roots from the enroller, already read. The key and its certificate stay. */
  setTrustAnchors(trustAnchorsPem: readonly string[]): void {
    const identity = this.#identity;
    if (identity === undefined || same(identity.trustAnchorsPem, trustAnchorsPem)) return;
    this.#publish({ ...identity, generation: identity.generation + 1, trustAnchorsPem });
  }

  /** The workload was revoked: from here on there is no identity. */
  shutDown(): void {
    this.stop();
    this.#identity = undefined;
  }

  /** Renews at once, as an operator may ask. @throws BootstrapError */
  async renewNow(): Promise<WorkloadIdentity> {
    const { workload, mesh, enrollers, version, scheduler } = this.#options;
    const before = this.#identity;
    if (before === undefined) throw new BootstrapError("no-identity", "there is no identity to renew");
    const fresh = await renew({
      identity: before,
      workload,
      mesh,
      enrollers: enrollers(),
      version,
      wallMs: () => scheduler.wallMs(),
    });
    // Shut down meanwhile.
    if (this.#identity === undefined) throw new BootstrapError("no-identity", "the identity was shut down");
    // Anchors may have been pushed while we waited: the generation must still rise.
    const renewed = { ...fresh, generation: this.#identity.generation + 1 };
    this.#publish(renewed);
    return renewed;
  }

  #arm(): void {
    const { scheduler } = this.#options;
    const identity = this.#identity;
    if (!this.#running || identity === undefined) return;
    const state = { notBeforeMs: identity.notBeforeMs, notAfterMs: identity.notAfterMs, failures: this.#failures };
    const delay = renewalDelayMs(state, scheduler.wallMs(), () => scheduler.rng());
    this.#nextAttemptAtMs = scheduler.wallMs() + delay;
    this.#cancel();
    // Looked at again at least every hour: a suspended machine or a moved clock makes timers lie.
    const step = Math.min(delay, 3_600_000);
    this.#cancel = scheduler.after(step, () => (step < delay ? this.#arm() : void this.#attempt()));
  }

  async #attempt(): Promise<void> {
    const { log } = this.#options;
    try {
      const identity = await this.renewNow();
      this.#failures = 0;
      this.#lastError = undefined;
      log.info({ notAfter: new Date(identity.notAfterMs).toISOString() }, "identity renewed");
    } catch (error) {
      this.#failures++;
      this.#lastError = error instanceof Error ? error.message : String(error);
      log.warn({ error: this.#lastError, failures: this.#failures }, "could not renew the identity; trying again");
    }
    this.#arm();
  }

  #publish(identity: WorkloadIdentity): void {
    this.#identity = identity;
    this.#saved = false;
    this.#save();
    for (const listener of this.#listeners) listener(identity);
  }

  #save(): void {
    const identity = this.#identity;
    if (this.#saved || identity === undefined) return;
    try {
      this.#options.save(identity);
      this.#saved = true;
    } catch (error) {
      this.#options.log.error({ error: String(error) }, "could not store the identity; it stays in memory");
      this.#options.scheduler.after(60_000, () => this.#save());
    }
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((pem, i) => pem === b[i]);
}
