import type { Millis } from "../../proxy/core/clock.ts";
import { backoffMs, type Log, type MeshNames, type Scheduler, type WorkloadName } from "../control/index.ts";
import { applyReadiness, applyWorkload, deleteUnready, offered, readWorkload } from "./apply.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { addressesOf, needsQuiet, planWorkload, type Readiness, type Registration, readRegistration } from "./plan.ts";
import { type ExternalWorkload, isReady } from "./resources.ts";

export interface RegistrarOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  readonly mesh: MeshNames;
  /** After Ready=False, before a change or a deletion: until no slice offers the workload, but within these bounds. */
  readonly settleMinMs: Millis;
  readonly settleMaxMs: Millis;
}

/** What a workload should look like in the cluster. */
export interface Wish {
  readonly readiness: Readiness;
  /** undefined: whatever is there. */
  readonly addresses: readonly string[] | undefined;
  /** `settle`: reached only when no slice offers the workload any more; `delete`: and then it is deleted. */
  readonly finish?: "settle" | "delete";
}

/** Called after every write that succeeded. */
export type Reached = (state: Readiness & { readonly addresses: readonly string[] }) => void;

const CONFLICT_ATTEMPTS = 8;
const CHANGING: Readiness = {
  ready: false,
  reason: "Changing",
  message: "withdrawn for a moment: clients must let go of the old address before it changes",
};
const MAX_CHANGING_MS = 60_000;
const RETRY = { minMs: 200, maxMs: 5000 } as const;

/**
 * Brings ExternalWorkloads to what is wished of them, one writer per workload. A newer wish replaces one that has not
 * been reached. The order of writes keeps two rules of Linkerd's: nothing that peers hold on to changes while Ready,
 * and nothing Ready is deleted.
 */
export class Registrar {
  readonly #options: RegistrarOptions;
  readonly #jobs = new Map<string, Job>();

  constructor(options: RegistrarOptions) {
    this.#options = options;
  }

  /**
   * Creates or changes the object itself. Readiness stays, unless the change needs quiet.
   * @param change - From what is registered now to what should be; may be asked again.
   * @throws KubeError, and whatever `change` throws.
   */
  async register(
    { namespace, name }: WorkloadName,
    change: (latest: Registration | undefined) => Registration,
  ): Promise<void> {
    const { client, scheduler } = this.#options;
    const { before, after } = await this.#amend(namespace, name, change, undefined);
    if (before !== undefined) return;
    const fresh: Readiness = {
      ready: false,
      reason: "NotAttached",
      message: "enrolled; the host has not attached yet",
    };
    try {
      await applyReadiness(client, after, fresh, scheduler.wallMs());
    } catch {
      // The host holds its place: what is said about it may come a moment later.
      this.wish(namespace, name, { readiness: fresh, addresses: undefined });
    }
  }

  /** @returns at once; the work goes on until the wish is reached, replaced or forgotten. */
  wish(namespace: string, name: string, wish: Wish, reached?: Reached): void {
    const key = `${namespace}/${name}`;
    const job = this.#jobs.get(key);
    if (job !== undefined) {
      job.wish = wish;
      job.reached = reached;
      job.changed = true;
      job.wake?.();
      return;
    }
    const fresh: Job = { namespace, name, wish, reached, changed: false, wake: undefined, stopped: false };
    this.#jobs.set(key, fresh);
    void this.#work(fresh).finally(() => this.#jobs.delete(key));
  }

  /** Stops working on everything; what has been written stays. */
  stop(): void {
    for (const job of this.#jobs.values()) {
      job.stopped = true;
      job.wake?.();
    }
  }

  async #work(job: Job): Promise<void> {
    for (let failures = 0; !job.stopped; ) {
      job.changed = false;
      const { wish, reached } = job;
      try {
        const state = await this.#reach(job, wish);
        failures = 0;
        if (!job.changed) {
          reached?.(state);
          // The callback may have wished again.
          if (!job.changed) return;
        }
      } catch (error) {
        failures++;
        this.#options.log.warn(
          { workload: `${job.namespace}/${job.name}`, error: String(error), failures },
          "could not bring the workload to its wanted state; trying again",
        );
        await this.#pause(
          backoffMs(failures, RETRY, () => this.#options.scheduler.rng()),
          job,
          true,
        );
      }
    }
  }

  async #reach(job: Job, wish: Wish): Promise<Readiness & { readonly addresses: readonly string[] }> {
    const { client, mesh, scheduler } = this.#options;
    const { namespace, name } = job;
    let current = await readWorkload(client, namespace, name);
    if (current === undefined) {
      return { ready: false, reason: "Deleted", message: "the ExternalWorkload was deleted", addresses: [] };
    }
    const registration = readRegistration(current);
    // Somebody else's object of that name: not ours to touch.
    if (registration === undefined) {
      return {
        ready: false,
        reason: "NotOurs",
        message: "the ExternalWorkload is kept by somebody else",
        addresses: [],
      };
    }
    if (wish.finish !== undefined && !wish.readiness.ready) {
      if (isReady(current) || (await offered(client, namespace, name))) await this.#quiet(current, wish.readiness, job);
      else await applyReadiness(client, current, wish.readiness, scheduler.wallMs());
      if (job.changed || wish.finish === "settle") return { ...wish.readiness, addresses: addressesOf(current) };
      if (!(await deleteUnready(client, namespace, name))) throw new Error("still offered to clients");
      return { ...wish.readiness, addresses: [] };
    }
    const addresses = wish.addresses ?? addressesOf(current);
    if (needsQuiet(current, planWorkload(registration, addresses, mesh))) {
      if (isReady(current)) await this.#quiet(current, CHANGING, job);
      if (job.changed) return { ...wish.readiness, addresses };
      current = (await this.#amend(namespace, name, (latest) => latest ?? registration, addresses)).after;
    }
    const readiness = permitted(wish.readiness, registration, addresses, scheduler.wallMs());
    await applyReadiness(client, current, readiness, scheduler.wallMs());
    return { ...readiness, addresses };
  }

  /**
   * Reads, plans and writes, again if somebody wrote in between: a renewal here and a new address at another replica
   * must not undo each other.
   *
   * @param change - From what is registered now to what should be.
   * @param addresses - undefined: those it has.
   */
  async #amend(
    namespace: string,
    name: string,
    change: (latest: Registration | undefined) => Registration,
    addresses: readonly string[] | undefined,
  ): Promise<{ readonly before: ExternalWorkload | undefined; readonly after: ExternalWorkload }> {
    const { client, mesh } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const before = await readWorkload(client, namespace, name);
      const registration = change(before && readRegistration(before));
      const wanted = planWorkload(registration, addresses ?? (before === undefined ? [] : addressesOf(before)), mesh);
      if (before !== undefined && isReady(before) && needsQuiet(before, wanted)) {
        await this.#quiet(before, CHANGING);
        continue;
      }
      try {
        return { before, after: await applyWorkload(client, wanted, before?.metadata.resourceVersion) };
      } catch (error) {
        if (!(error instanceof KubeError) || error.code !== 409 || attempt >= CONFLICT_ATTEMPTS) throw error;
      }
    }
  }

  /** Ready=False, then wait until clients have been told. */
  async #quiet(current: ExternalWorkload, readiness: Readiness, job?: Job): Promise<ExternalWorkload> {
    const { client, scheduler, settleMinMs, settleMaxMs } = this.#options;
    const { namespace = "", name } = current.metadata;
    const quiet = await applyReadiness(client, current, readiness, scheduler.wallMs());
    const since = scheduler.now();
    for (;;) {
      await this.#pause(settleMinMs, job);
      if (job?.stopped === true) return quiet;
      if (scheduler.now() - since >= settleMaxMs || !(await offered(client, namespace, name))) return quiet;
    }
  }

  /** A new wish cuts a pause between attempts short; the pause for quiet is only cut by the end. */
  #pause(ms: Millis, job: Job | undefined, impatient = false): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.scheduler.after(ms, resolve);
      if (job === undefined) return;
      job.wake = () => {
        if (!job.stopped && !impatient) return;
        cancel();
        resolve();
      };
    });
  }
}

/** What may be said of a workload, whatever its host says. */
function permitted(
  wanted: Readiness,
  registration: Registration,
  addresses: readonly string[],
  wallMs: number,
): Readiness {
  if (registration.revoked !== undefined) return { ready: false, reason: "Revoked", message: registration.revoked };
  const { changing } = registration;
  // Not for ever: whoever set the mark may have died.
  if (changing !== undefined && wallMs - Date.parse(changing) < MAX_CHANGING_MS) return CHANGING;
  // Nobody could reach it.
  if (wanted.ready && addresses.length === 0) {
    return { ready: false, reason: "NoAddress", message: "the host's address is not known" };
  }
  return wanted;
}

interface Job {
  readonly namespace: string;
  readonly name: string;
  wish: Wish;
  reached: Reached | undefined;
  changed: boolean;
  wake: (() => void) | undefined;
  stopped: boolean;
}
