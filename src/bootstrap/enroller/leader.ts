import type { Millis } from "../../proxy/core/clock.ts";
import { every, type Log, type Scheduler } from "../control/index.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { LEASES, type Lease } from "./resources.ts";

/** The Lease by which one enroller of many looks after groups. */
export const GROUPS_LEASE = "mesh-agent-enroller-groups";
const DURATION_MS = 15_000;
const RENEW_MS = 5000;

export interface LeaderOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** The enroller's own namespace. */
  readonly namespace: string;
  /** Unique per process. */
  readonly replica: string;
}

/**
 * Elects one of the replicas. A lease is as old as our own clock has seen it unchanged, whatever others' clocks say, and
 * every take-over is written against the version that was read. Who leads and cannot renew stops in time.
 */
export class Leader {
  readonly #options: LeaderOptions;
  #stop: () => void = () => {};
  #leadsUntil: Millis = 0;
  #seen: { readonly version: string; readonly at: Millis } | undefined;
  #asking = false;

  constructor(options: LeaderOptions) {
    this.#options = options;
  }

  start(): void {
    void this.#look();
    this.#stop = every(this.#options.scheduler, RENEW_MS, () => void this.#look());
  }

  /** Lets go, so that another replica need not wait for the lease to grow old. */
  stop(): void {
    this.#stop();
    if (!this.leads()) return;
    this.#leadsUntil = 0;
    const { client, namespace } = this.#options;
    client.delete(LEASES, namespace, GROUPS_LEASE).catch(() => {
      // It grows old by itself.
    });
  }

  leads(): boolean {
    return this.#options.scheduler.now() < this.#leadsUntil;
  }

  async #look(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    const { client, scheduler, namespace, replica, log } = this.#options;
    const asked = scheduler.now();
    try {
      const lease = await client.get<Lease>(LEASES, namespace, GROUPS_LEASE);
      if (lease === undefined) await client.create<Lease>(LEASES, namespace, this.#lease(undefined));
      else if (lease.spec?.holderIdentity === replica || this.#isOld(lease, asked))
        await client.update<Lease>(LEASES, namespace, this.#lease(lease));
      else return;
      if (!this.leads()) log.info({ replica }, "this enroller looks after groups now");
      // From the moment before the question: the others count from when they see the answer, which is later.
      this.#leadsUntil = asked + DURATION_MS;
    } catch (error) {
      // 409: another replica was faster.
      if (error instanceof KubeError && error.code === 409) return;
      log.warn({ error: String(error) }, "could not write the lease for groups");
    } finally {
      this.#asking = false;
    }
  }

  #isOld(lease: Lease, now: Millis): boolean {
    const version = lease.metadata.resourceVersion ?? "";
    if (this.#seen?.version !== version) {
      this.#seen = { version, at: now };
      return false;
    }
    return now - this.#seen.at >= DURATION_MS;
  }

  #lease(before: Lease | undefined): Lease {
    const { scheduler, namespace, replica } = this.#options;
    // MicroTime: six digits.
    const at = new Date(scheduler.wallMs()).toISOString().replace("Z", "000Z");
    const same = before?.spec?.holderIdentity === replica;
    return {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: before?.metadata ?? { name: GROUPS_LEASE, namespace },
      spec: {
        holderIdentity: replica,
        leaseDurationSeconds: DURATION_MS / 1000,
        acquireTime: same ? (before?.spec?.acquireTime ?? at) : at,
        renewTime: at,
      },
    };
  }
}
