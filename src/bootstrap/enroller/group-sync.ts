import { isDeepStrictEqual } from "node:util";
import type { Millis } from "../../proxy/core/clock.ts";
import { every, type Log, type Scheduler } from "../control/index.ts";
import { offered, readWorkload } from "./apply.ts";
import {
  checkGroup,
  type ExternalWorkloadGroup,
  GROUPS,
  type GroupHost,
  type GroupStatus,
  groupTerms,
} from "./group.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { writeHosts } from "./place.ts";
import { GROUP_LABEL, type Registration, readRegistration, templateOf } from "./plan.ts";
import type { Registrar } from "./registrar.ts";
import { EXTERNAL_WORKLOADS, type ExternalWorkload, isReady } from "./resources.ts";

/** A place that was given and not taken: the host died between two answers. */
const UNTAKEN_MS = 600_000;
/** Who waits, or was denied, is forgotten after so long, as invitations are. */
const KEEP_WAITING_MS = 7 * 86_400_000;
const LOOK_MS = 1000;
const LOOK_ANYWAY_MS = 60_000;
const POLL_MS = 200;
/** For clients to let go of a host before its ports change. */
const QUIET_MS = 15_000;
/** For a host to be Ready again before the next one of its group changes. */
const RECOVERY_MS = 30_000;

export interface GroupSyncOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  readonly registrar: Registrar;
  /** Whether this replica is the one that looks after groups. */
  readonly leads: () => boolean;
}

/**
 * Looks after groups: counts their hosts, frees places that nobody takes, and brings registered hosts to a template that
 * has changed. What peers do not hold on to changes at once; ports and opaque ports one host after the other, each taken
 * out of service for the moment: destination would go on sending to the old ports of one that is Ready.
 */
export class GroupSync {
  readonly #options: GroupSyncOptions;
  readonly #groups = new Map<string, ExternalWorkloadGroup>();
  readonly #workloads = new Map<string, ExternalWorkload>();
  readonly #busy = new Set<string>();
  #dirty = true;
  #complained = false;
  #lookedAt: Millis;
  #stops: (() => void)[] = [];

  constructor(options: GroupSyncOptions) {
    this.#options = options;
    this.#lookedAt = options.scheduler.now();
  }

  start(): void {
    const { client, scheduler, log } = this.#options;
    const problem = (error: KubeError) => {
      // Without the definition there are no groups, and nothing to say every few seconds.
      if (!this.#complained) log.warn({ error: error.message }, "cannot watch groups");
      this.#complained = true;
    };
    this.#stops = [
      client.watch<ExternalWorkloadGroup>(GROUPS, undefined, (event) => this.#seen(this.#groups, event), problem),
      client.watch<ExternalWorkload>(
        EXTERNAL_WORKLOADS,
        undefined,
        (event) => {
          if (event.type === "SYNCED" || event.object.metadata.labels?.[GROUP_LABEL] !== undefined)
            this.#seen(this.#workloads, event);
        },
        problem,
      ),
      every(scheduler, LOOK_MS, () => this.#look()),
    ];
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  #seen<T extends ExternalWorkload | ExternalWorkloadGroup>(
    known: Map<string, T>,
    event: { readonly type: "SYNCED" } | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: T },
  ): void {
    this.#dirty = true;
    if (event.type === "SYNCED") return;
    const { namespace, name } = event.object.metadata;
    if (event.type === "DELETED") known.delete(`${namespace}/${name}`);
    else known.set(`${namespace}/${name}`, event.object);
  }

  #look(): void {
    const { scheduler, leads } = this.#options;
    const now = scheduler.now();
    if (!leads() || (!this.#dirty && now - this.#lookedAt < LOOK_ANYWAY_MS)) return;
    this.#dirty = false;
    this.#lookedAt = now;
    for (const [key, group] of this.#groups) {
      if (this.#busy.has(key)) {
        this.#dirty = true;
        continue;
      }
      this.#busy.add(key);
      void this.#tend(group).finally(() => this.#busy.delete(key));
    }
  }

  async #tend(group: ExternalWorkloadGroup): Promise<void> {
    const { log, scheduler } = this.#options;
    const where = `${group.metadata.namespace}/${group.metadata.name}`;
    try {
      const hosts = [...this.#workloads.values()].filter(
        ({ metadata }) =>
          metadata.namespace === group.metadata.namespace && metadata.labels?.[GROUP_LABEL] === group.metadata.name,
      );
      const outdated = checkGroup(group) === undefined ? hosts.filter((host) => isOutdated(host, group)) : [];
      await this.#report(group, hosts, outdated.length);
      for (const host of outdated) {
        if (!this.#options.leads()) return;
        await this.#update(host, group);
      }
    } catch (error) {
      this.#dirty = true;
      // Another writer, or a host that left while we looked.
      if (error instanceof KubeError && (error.code === 409 || error.code === 404)) return;
      log.warn(
        { group: where, error: String(error), at: scheduler.wallMs() },
        "could not look after a group; again soon",
      );
    }
  }

  async #report(group: ExternalWorkloadGroup, hosts: readonly ExternalWorkload[], outdated: number): Promise<void> {
    const { client, scheduler } = this.#options;
    const names = new Set(hosts.map(({ metadata }) => metadata.name));
    const listed = keptHosts(group, names, scheduler.wallMs());
    const counts: GroupStatus = {
      observedGeneration: group.metadata.generation ?? 0,
      registered: hosts.length,
      ready: hosts.filter(isReady).length,
      outdated,
    };
    const wanted = { ...counts, pending: listed.filter(({ state }) => state === "Pending").length, hosts: listed };
    if (!isDeepStrictEqual({ ...group.status }, wanted)) await writeHosts(client, group, listed, counts);
  }

  async #update(host: ExternalWorkload, group: ExternalWorkloadGroup): Promise<void> {
    const { client, registrar, scheduler, log } = this.#options;
    const registration = readRegistration(host);
    if (registration === undefined) return;
    const { workload } = registration;
    const { namespace, name } = workload;
    const change = (latest: Registration | undefined): Registration => {
      if (latest === undefined) throw new KubeError(404, "NotFound", `${namespace}/${name} is gone`);
      return { ...brought(latest, group), changing: undefined };
    };
    const quiet =
      registration.changing !== undefined || !isDeepStrictEqual(face(registration), face(change(registration)));
    if (!quiet) {
      await registrar.register(workload, change);
      return;
    }
    const wasReady = isReady(host);
    // Every enroller keeps a host that is marked out of service, whichever it is attached to.
    const since = new Date(scheduler.wallMs()).toISOString();
    await registrar.register(workload, (latest) => ({ ...change(latest), ...kept(latest), changing: since }));
    await this.#until(QUIET_MS, async () => {
      const current = await readWorkload(client, namespace, name);
      return current === undefined || (!isReady(current) && !(await offered(client, namespace, name)));
    });
    await registrar.register(workload, change);
    log.info({ host: `${namespace}/${name}`, group: group.metadata.name }, "host brought to its group's new ports");
    if (wasReady) {
      await this.#until(RECOVERY_MS, async () => {
        const current = await readWorkload(client, namespace, name);
        return current === undefined || isReady(current);
      });
    }
  }

  /** Asks until it is so, or the time is over. */
  async #until(limitMs: Millis, ask: () => Promise<boolean>): Promise<void> {
    const { scheduler } = this.#options;
    const end = scheduler.now() + limitMs;
    while (!(await ask()) && scheduler.now() < end)
      await new Promise<void>((resolve) => void scheduler.after(POLL_MS, resolve));
  }
}

/** A host as its group's template wants it; what is the host's own stays. */
function brought(registration: Registration, group: ExternalWorkloadGroup): Registration {
  const terms = groupTerms(group);
  const { ports, opaquePorts, probes, labels, annotations = {}, defaultInboundPolicy } = terms;
  const template = templateOf(terms);
  return { ...registration, ports, opaquePorts, probes, labels, annotations, defaultInboundPolicy, template };
}

function isOutdated(host: ExternalWorkload, group: ExternalWorkloadGroup): boolean {
  const registration = readRegistration(host);
  if (registration === undefined || registration.revoked !== undefined) return false;
  return registration.changing !== undefined || registration.template !== templateOf(groupTerms(group));
}

function face({ ports, opaquePorts }: Registration) {
  return { ports, opaquePorts };
}

/** What stays as it is until clients have let go. */
function kept(registration: Registration | undefined): Partial<Registration> {
  return registration === undefined ? {} : { ...face(registration), template: registration.template };
}

/** The list without those who hold a place for nothing. */
function keptHosts(
  group: ExternalWorkloadGroup,
  registered: ReadonlySet<string>,
  wallMs: number,
): readonly GroupHost[] {
  const { maxHosts, approval = "Automatic" } = group.spec.admission ?? {};
  return (group.status?.hosts ?? []).filter(({ name, state, since }) => {
    const age = wallMs - Date.parse(since);
    if (state !== "Admitted") return age < KEEP_WAITING_MS;
    if (age < UNTAKEN_MS) return true;
    return registered.has(name) && (maxHosts !== undefined || approval === "Manual");
  });
}
