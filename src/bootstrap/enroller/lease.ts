import type { Millis } from "../../proxy/core/clock.ts";
import type { Log, Scheduler } from "../control/index.ts";
import { FIELD_MANAGER } from "./apply.ts";
import type { KubeClient } from "./kubernetes.ts";
import { LEASES, type Lease } from "./resources.ts";

const PREFIX = "mesh-agent.";
/** Marks, as a label, the Lease of a host. */
export const HOST_LEASE_LABEL = "mesh-agent/host";
export const LEASE_RENEW_MS = 10_000;
/** Leases that are written at once. */
const WRITERS = 8;
/** A lease unchanged for so long belongs to a dead replica; its hosts had this time to attach elsewhere. */
export const LEASE_DURATION_MS = 30_000;

export interface LeasesOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** The enroller's own namespace. */
  readonly namespace: string;
  /** Unique per process. */
  readonly replica: string;
  /** Another replica holds a host that we believed to be ours: it attached there later. */
  readonly onTaken: (key: string) => void;
}

/**
 * One Lease per attached host, by which replicas know of each other's hosts. It carries no election: a host chooses its
 * replica by attaching, and the newest attachment wins. Times of others are never compared: a lease is as old as our
 * own watch has seen it unchanged.
 */
export class Leases {
  readonly #options: LeasesOptions;
  /** With the version of our last write; none while the first is under way. */
  readonly #held = new Map<string, bigint | undefined>();
  readonly #others = new Map<string, Other>();
  /** When a host of another replica last came to us, by that replica: while they still come, it is early to judge the rest. */
  readonly #movedAt = new Map<string, Millis>();
  #stops: (() => void)[] = [];
  #renewing = false;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  start(): void {
    const { client, scheduler, namespace, replica, log } = this.#options;
    this.#stops = [
      client.watch<Lease>(
        LEASES,
        namespace,
        (event) => {
          if (event.type === "SYNCED") return;
          const key = keyOf(event.object);
          if (key === undefined) return;
          const { holderIdentity, renewTime } = event.object.spec ?? {};
          if (event.type === "DELETED" || holderIdentity === replica) {
            this.#others.delete(key);
            return;
          }
          if (this.#held.has(key)) {
            // An event from before our own write says nothing new.
            const ours = this.#held.get(key);
            if (ours === undefined || version(event.object) <= ours) return;
            this.#held.delete(key);
            this.#options.onTaken(key);
          }
          const known = this.#others.get(key);
          // A re-list shows what we have seen: only a change is a sign of life.
          if (known?.renewTime === renewTime && known !== undefined) return;
          this.#others.set(key, { holder: holderIdentity ?? "", renewTime, seenAt: scheduler.now() });
        },
        (error) => log.warn({ error: error.message }, "cannot watch leases"),
      ),
    ];
  }

  /** Drops no lease: the replicas that stay need to see ours grow old. */
  stop(): void {
    for (const stop of this.#stops) stop();
    this.#stops = [];
  }

  /** Takes a host over, whoever held it. */
  async hold(key: string): Promise<void> {
    if (!this.#held.has(key)) this.#held.set(key, undefined);
    const before = this.#others.get(key)?.holder;
    if (before !== undefined) this.#movedAt.set(before, this.#options.scheduler.now());
    this.#others.delete(key);
    await this.#write(key);
  }

  async release(key: string): Promise<void> {
    this.#held.delete(key);
    this.#others.delete(key);
    await this.#options.client.delete(LEASES, this.#options.namespace, PREFIX + key.replace("/", "."));
  }

  /**
   * Renews all that is held, a few at a time: one after the other, a thousand hosts and an API server that takes 30 ms
   * would outlive the leases. A round that is still under way is not overtaken by the next.
   */
  async renew(): Promise<void> {
    if (this.#renewing) return;
    this.#renewing = true;
    const due = [...this.#held.keys()].values();
    const work = async () => {
      for (const key of due) {
        if (!this.#held.has(key)) continue;
        try {
          await this.#write(key);
        } catch (error) {
          this.#options.log.warn({ host: key, error: String(error) }, "could not renew a lease");
        }
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, work));
    this.#renewing = false;
  }

  /**
   * Hosts held by other replicas, with the moment of the last sign of life from there, and when one of that replica's last
   * came to us.
   */
  others(): readonly { readonly key: string; readonly seenAt: Millis; readonly movedAt: Millis }[] {
    const holders = new Set<string>();
    const others = [...this.#others].map(([key, { holder, seenAt }]) => {
      holders.add(holder);
      return { key, seenAt, movedAt: this.#movedAt.get(holder) ?? Number.NEGATIVE_INFINITY };
    });
    for (const holder of this.#movedAt.keys()) if (!holders.has(holder)) this.#movedAt.delete(holder);
    return others;
  }

  async #write(key: string): Promise<void> {
    const { client, scheduler, namespace, replica } = this.#options;
    // MicroTime: six digits.
    const renewTime = new Date(scheduler.wallMs()).toISOString().replace("Z", "000Z");
    const written = await client.apply<Lease>(
      LEASES,
      namespace,
      {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: PREFIX + key.replace("/", "."), namespace, labels: { [HOST_LEASE_LABEL]: "true" } },
        spec: { holderIdentity: replica, leaseDurationSeconds: LEASE_DURATION_MS / 1000, renewTime },
      },
      FIELD_MANAGER,
    );
    if (this.#held.has(key)) this.#held.set(key, version(written));
  }
}

interface Other {
  readonly holder: string;
  readonly renewTime: string | undefined;
  readonly seenAt: Millis;
}

// Kubernetes promises an order of resource versions within a resource since 1.35; in fact they always were numbers.
function version(lease: Lease): bigint {
  const text = lease.metadata.resourceVersion ?? "";
  return /^\d+$/.test(text) ? BigInt(text) : 0n;
}

/** `NS/EW` of a lease of ours. A namespace has no dot. */
function keyOf(lease: Lease): string | undefined {
  if (lease.metadata.labels?.[HOST_LEASE_LABEL] === undefined) return undefined;
  const match = /^mesh-agent\.([^.]+)\.(.+)$/.exec(lease.metadata.name);
  return match === null ? undefined : `${match[1]}/${match[2]}`;
}
