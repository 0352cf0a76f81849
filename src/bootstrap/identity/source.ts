import { X509Certificate } from "node:crypto";
import type { Millis } from "../../proxy/core/clock.ts";
import type { IdentitySource, WorkloadIdentity } from "../../proxy/core/identity.ts";
import {
  BootstrapError,
  chainsTo,
  type Log,
  type MeshNames,
  type Scheduler,
  splitPem,
  type WorkloadName,
} from "../control/index.ts";
import { renew } from "./renew.ts";
import { renewalDelayMs } from "./renewal.ts";

export interface EnrolledIdentityOptions {
  readonly identity: WorkloadIdentity;
  readonly workload: WorkloadName;
  readonly mesh: MeshNames;
  /** Read at every attempt: the order may change, the last one that worked first. */
  readonly enrollers: () => readonly string[];
  readonly version: string;
  /** SHA-256 of the machine id, hexadecimal. */
  readonly machine: string;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Keeps a new generation. What it throws is logged and tried again with the next change: a full disk stops nothing. */
  readonly save: (identity: WorkloadIdentity) => void;
  /** An attempt has failed and will be made again: for metrics. */
  readonly failed?: () => void;
  /** Makes one attempt; for tests. */
  readonly renew?: typeof renew;
}

const LOOK_MS = 60_000;

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
  /** Drawn once per certificate: drawn at every look, the earliest draw would win for everybody. */
  #jitter: number;
  /** Asked to renew before it is due. */
  #soonerAt: Millis | undefined;
  #saved = true;
  #running = false;
  #attempting = false;
  #cancel: () => void = () => {};

  constructor(options: EnrolledIdentityOptions) {
    this.#options = options;
    this.#identity = options.identity;
    this.#jitter = options.scheduler.rng();
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
    if (vouchedFor(identity.certificatePem, trustAnchorsPem, this.#options.scheduler.wallMs())) return;
    // The root above our certificate is gone: whoever hears of that before us refuses us.
    this.#options.log.error({}, "the trust anchors no longer vouch for this host's certificate; renewing at once");
    this.renewWithin(0);
  }

  /** Another issuer signs now: renews at a moment of chance within `ms`, unless the renewal is due before that. */
  renewWithin(ms: Millis): void {
    const { scheduler } = this.#options;
    const at = scheduler.now() + ms * scheduler.rng();
    this.#soonerAt = Math.min(at, this.#soonerAt ?? at);
    if (this.#failures === 0) this.#arm();
  }

  /** The workload was revoked: from here on there is no identity. */
  shutDown(): void {
    this.stop();
    this.#identity = undefined;
  }

  /** Renews at once, as an operator may ask. @throws BootstrapError */
  async renewNow(): Promise<WorkloadIdentity> {
    const { workload, mesh, enrollers, version, machine, scheduler } = this.#options;
    const before = this.#identity;
    if (before === undefined) throw new BootstrapError("no-identity", "there is no identity to renew");
    const fresh = await (this.#options.renew ?? renew)({
      identity: before,
      workload,
      mesh,
      enrollers: enrollers(),
      version,
      machine,
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
    if (!this.#running || this.#attempting || identity === undefined) return;
    const { notBeforeMs, notAfterMs } = identity;
    const state = { notBeforeMs, notAfterMs, failures: this.#failures };
    const chance = () => (this.#failures === 0 ? this.#jitter : scheduler.rng());
    const due = renewalDelayMs(state, scheduler.wallMs(), chance);
    const delay = Math.min(due, Math.max(0, (this.#soonerAt ?? Number.POSITIVE_INFINITY) - scheduler.now()));
    this.#nextAttemptAtMs = scheduler.wallMs() + delay;
    this.#cancel();
    // Looked at again and again: a suspended machine or a moved clock makes timers lie.
    const step = Math.min(delay, LOOK_MS);
    this.#cancel = scheduler.after(step, () => (step < delay ? this.#arm() : void this.#attempt()));
  }

  async #attempt(): Promise<void> {
    const { log, scheduler } = this.#options;
    this.#soonerAt = undefined;
    this.#attempting = true;
    try {
      const identity = await this.renewNow();
      this.#failures = 0;
      this.#jitter = scheduler.rng();
      this.#lastError = undefined;
      log.info({ notAfter: new Date(identity.notAfterMs).toISOString() }, "identity renewed");
    } catch (error) {
      this.#failures++;
      this.#options.failed?.();
      this.#lastError = error instanceof Error ? error.message : String(error);
      log.warn({ error: this.#lastError, failures: this.#failures }, "could not renew the identity; trying again");
    }
    this.#attempting = false;
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

function vouchedFor(certificatePem: string, trustAnchorsPem: readonly string[], wallMs: number): boolean {
  const read = (pem: string) => new X509Certificate(pem);
  return chainsTo(splitPem(certificatePem).map(read), trustAnchorsPem.map(read), wallMs);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((pem, i) => pem === b[i]);
}
