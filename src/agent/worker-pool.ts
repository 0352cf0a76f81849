import { availableParallelism } from "node:os";
import type { Worker } from "node:worker_threads";
import type { Millis } from "../proxy/core/clock.ts";
import type { WorkloadIdentity } from "../proxy/core/identity.ts";
import type { Logger } from "../proxy/core/log.ts";
import type {
  DiscoveryRequest,
  MetricsAnnouncement,
  MetricsEviction,
  TapEvent,
  WorkerOrder,
  WorkerReport,
} from "../proxy/core/messages.ts";
import type { DiscoveryMessage, Hub, HubWorker } from "../proxy/discovery/index.ts";
import type { MetricsStore, MetricsWriter } from "./metrics/index.ts";
import { close, dup } from "./posix.ts";
import type { WorkerStart } from "./worker.ts";
import { spawnWorker } from "./worker-thread.ts";

export interface WorkerPoolOptions {
  readonly count: number;
  /** Listening descriptors of the process: each worker gets duplicates. */
  readonly inboundFds: readonly number[];
  readonly outboundFds: readonly number[];
  readonly start: () => Omit<WorkerStart, "index" | "workers" | "identity" | "inboundFds" | "outboundFds" | "tap">;
  readonly identity: () => WorkloadIdentity | undefined;
  readonly hub: Pick<Hub, "attachWorker">;
  readonly metrics: MetricsStore;
  readonly log: Logger;
  readonly now: () => Millis;
  readonly onTap: (event: TapEvent) => void;
  /** How many workers are accepting changed. */
  readonly onReadiness: () => void;
  /** How a worker is started; default: {@link spawnWorker}. */
  readonly spawn?: (start: WorkerStart) => Worker;
}

type Message = WorkerReport | DiscoveryRequest | MetricsAnnouncement;

interface Member {
  readonly index: number;
  readonly worker: Worker;
  readonly hub: HubWorker;
  readonly metrics: MetricsWriter;
  adopted: boolean;
  ready: boolean;
  drained: boolean;
}

// A worker that dies at once, again and again, is not restarted in a loop that eats the host.
const RESTART_MIN_MS = 50;
const RESTART_MAX_MS = 5_000;
const SETTLED_MS = 10_000;
// How long workers may take to say how many connections they have.
const COUNT_WITHIN_MS = 500;

/** One worker per core that is allowed: `proxy.workers`, or the cores but one, at least one, at most eight. */
export function workerCount(configured: number): number {
  return configured > 0 ? configured : Math.max(1, Math.min(8, availableParallelism() - 1));
}

/**
 * The worker threads. Each listens on its own duplicate of every listening descriptor: one that dies takes its
 * connections with it and nothing else, and is started again on fresh duplicates.
 */
export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #members = new Map<number, Member>();
  readonly #failures = new Map<number, number>();
  #stopping = false;
  #tapping = false;
  #onDrained: (() => void) | undefined;
  #count: { total: number; left: number; readonly done: (total: number | undefined) => void } | undefined;
  #restarts = 0;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    for (let index = 0; index < options.count; index++) this.#spawn(index);
  }

  /** Workers that are accepting connections. */
  get ready(): number {
    let ready = 0;
    for (const member of this.#members.values()) if (member.ready) ready++;
    return ready;
  }

  get count(): number {
    return this.#options.count;
  }

  /** Workers that died and were started again. */
  get restarts(): number {
    return this.#restarts;
  }

  identity(identity: WorkloadIdentity): void {
    this.#order({ type: "identity", identity });
  }

  tap(on: boolean): void {
    this.#tapping = on;
    this.#order({ type: "tap", on });
  }

  /** Accepts no more, lets open connections finish, closes what is left at the limit. */
  drain(timeoutMs: Millis): Promise<void> {
    this.#stopping = true;
    const drained = new Promise<void>((resolve) => {
      this.#onDrained = resolve;
    });
    this.#order({ type: "drain" });
    this.#checkDrained();
    const limit = setTimeout(() => this.#onDrained?.(), timeoutMs);
    return drained
      .then(() => {
        clearTimeout(limit);
        return this.connections();
      })
      .then((open) => {
        if (open !== 0)
          this.#options.log.warn("closed what was still open at the end of the drain", {
            connections: open ?? "unknown",
          });
        this.#order({ type: "destroy" });
      });
  }

  /** How many connections are open; undefined if a worker is too busy to say. */
  connections(): Promise<number | undefined> {
    const members = [...this.#members.values()].filter((member) => member.ready).length;
    this.#count?.done(undefined);
    if (members === 0) return Promise.resolve(0);
    return new Promise((resolve) => {
      const limit = setTimeout(() => this.#count?.done(undefined), COUNT_WITHIN_MS);
      this.#count = {
        total: 0,
        left: members,
        done: (total) => {
          clearTimeout(limit);
          this.#count = undefined;
          resolve(total);
        },
      };
      this.#order({ type: "count" });
    });
  }

  /** Ends a drain now. */
  hasten(): void {
    this.#onDrained?.();
  }

  async terminate(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#members.values()].map((member) => member.worker.terminate()));
  }

  #order(order: WorkerOrder | DiscoveryMessage | MetricsEviction): void {
    for (const member of this.#members.values()) member.worker.postMessage(order);
  }

  #spawn(index: number): void {
    const options = this.#options;
    const inboundFds = options.inboundFds.map(dup);
    const outboundFds = options.outboundFds.map(dup);
    const startedAt = options.now();
    const worker = (options.spawn ?? spawnWorker)({
      ...options.start(),
      index,
      workers: options.count,
      identity: options.identity(),
      inboundFds,
      outboundFds,
      tap: this.#tapping,
    });
    const hub = options.hub.attachWorker((message) => worker.postMessage(message));
    const metrics = options.metrics.addWriter((eviction) => worker.postMessage(eviction));
    const member: Member = { index, worker, hub, metrics, adopted: false, ready: false, drained: false };
    this.#members.set(index, member);
    worker.on("message", (message: Message) => this.#receive(member, message));
    worker.on("error", (error) => {
      const stack = error instanceof Error ? error.stack : undefined;
      options.log.error("a proxy worker died", { worker: index, why: stack ?? String(error) });
    });
    worker.on("exit", () => {
      this.#members.delete(index);
      hub.detach();
      metrics.end();
      // Whatever the worker adopted went with its thread; what it had not yet adopted is still ours to close.
      if (!member.adopted) for (const fd of [...inboundFds, ...outboundFds]) close(fd);
      if (this.#stopping) return this.#checkDrained();
      this.#restarts++;
      const failures = options.now() - startedAt > SETTLED_MS ? 0 : (this.#failures.get(index) ?? 0) + 1;
      this.#failures.set(index, failures);
      options.onReadiness();
      const delayMs = failures < 2 ? RESTART_MIN_MS : Math.min(RESTART_MIN_MS * 2 ** (failures - 1), RESTART_MAX_MS);
      setTimeout(() => !this.#stopping && this.#spawn(index), delayMs);
    });
  }

  #receive(member: Member, message: Message): void {
    switch (message.type) {
      case "worker.adopting":
        member.adopted = true;
        return;
      case "worker.ready":
        member.ready = true;
        return this.#options.onReadiness();
      case "worker.drained":
        member.drained = true;
        return this.#checkDrained();
      case "worker.count":
        if (this.#count === undefined) return;
        this.#count.total += message.connections;
        if (--this.#count.left === 0) this.#count.done(this.#count.total);
        return;
      case "worker.log":
        return this.#options.log[message.level](message.message, { worker: member.index, ...message.fields });
      case "worker.tap":
        return this.#options.onTap(message.event);
      case "discovery.watch":
      case "discovery.unwatch":
      case "discovery.suspect":
      case "discovery.taken":
        return member.hub.receive(message);
      default:
        return member.metrics.receive(message);
    }
  }

  #checkDrained(): void {
    for (const member of this.#members.values()) if (!member.drained) return;
    if (this.#stopping) this.#onDrained?.();
  }
}
