import type { Endpoint } from "../core/endpoint.ts";
import { type DiscoveryRequest, type DiscoveryTarget, discoveryKey } from "../core/messages.ts";
import type { OutboundState } from "../policy/index.ts";
import { AnswerCache, type AnswerStore } from "./cache.ts";
import { EndpointsEntry } from "./endpoints-entry.ts";
import type { EntryDeps, EntryStatus, HubEntry, Send } from "./entry.ts";
import { InboundEntry } from "./inbound-entry.ts";
import { OutboundEntry } from "./outbound-entry.ts";
import { Paced } from "./paced.ts";
import { DEFAULT_WATCH_LIMITS, type WatchLimits } from "./watch.ts";

export interface HubDeps extends Omit<EntryDeps, "cache" | "heard" | "limits" | "timeoutMs" | "maxStaleMs"> {
  readonly store: AnswerStore;
  /** Default: {@link DEFAULT_WATCH_LIMITS}; `undefined` given explicitly: none. */
  readonly limits?: WatchLimits | undefined;
  /** `discovery.timeoutMs`: how long an unknown destination may remain so; default 10 s. */
  readonly timeoutMs?: number;
  /** `discovery.maxStale`: how old an answer may become unconfirmed; default 24 h. */
  readonly maxStaleMs?: number;
}

/** One worker, as the hub knows it. */
export interface HubWorker {
  receive(request: DiscoveryRequest): void;
  /** The worker is gone, with all that it watched. */
  detach(): void;
}

// Ages are in hours; a minute more or less is nothing.
const EXPIRE_EVERY_MS = 60_000;

/**
 * The main thread's side of discovery: owns every watch, once per host however many workers ask, and sends each worker
 * what it asked for. It opens no sockets and reads no clock: both are handed in.
 */
export class Hub {
  readonly #deps: EntryDeps;
  readonly #entries = new Map<string, HubEntry>();
  readonly #workers = new Set<Paced>();
  /** Inbound ports that are watched although nobody asks. */
  readonly #kept = new Set<string>();
  #callOff: (() => void) | undefined;

  constructor(deps: HubDeps) {
    const maxStaleMs = deps.maxStaleMs ?? 24 * 3_600_000;
    this.#deps = {
      ...deps,
      limits: "limits" in deps ? deps.limits : DEFAULT_WATCH_LIMITS,
      timeoutMs: deps.timeoutMs ?? 10_000,
      maxStaleMs,
      cache: new AnswerCache(deps.store, deps.clock, deps.timers, maxStaleMs),
      heard: () => [...this.#entries.values()].some((entry) => entry.connected()),
    };
    this.#expireLater();
  }

  /** @param send - Delivers to the worker; must not throw. */
  attachWorker(send: Send): HubWorker {
    const paced = new Paced(send);
    this.#workers.add(paced);
    return {
      receive: (request) => {
        // A worker that is gone may have left messages behind.
        if (this.#workers.has(paced)) this.#receive(paced, request);
      },
      detach: () => this.#detach(paced),
    };
  }

  /** Watches the policies of ports that the workload declares from the start and for good: no first guess is needed. */
  keepInbound(ports: Iterable<number>): void {
    const before = [...this.#kept];
    this.#kept.clear();
    for (const port of ports) {
      const target: DiscoveryTarget = { kind: "inbound", port };
      this.#kept.add(discoveryKey(target));
      this.#entry(target);
    }
    for (const key of before) this.#dropIfUnused(key);
  }

  /** Tries all interrupted watches now: there is a connection, an identity or an address that was missing. */
  retryNow(): void {
    for (const entry of this.#entries.values()) entry.retryNow();
  }

  /** What is watched, and how it stands: for `status`. */
  status(): readonly EntryStatus[] {
    const wallMs = this.#deps.clock.wallMs();
    return [...this.#entries.values()].map((entry) => entry.status(wallMs));
  }

  /** For `explain`: what is known of an original destination that is being watched. */
  outbound(ip: string, port: number): OutboundState | undefined {
    const entry = this.#entries.get(discoveryKey({ kind: "outbound", ip, port }));
    return entry instanceof OutboundEntry ? entry.current : undefined;
  }

  /** For `endpoints`: those of a backend that is being watched. */
  endpoints(path: string): ReadonlyMap<string, Endpoint> | undefined {
    const entry = this.#entries.get(discoveryKey({ kind: "endpoints", path }));
    return entry instanceof EndpointsEntry ? entry.endpoints : undefined;
  }

  /** Writes what is not yet stored. */
  flush(): void {
    this.#deps.cache.flush();
  }

  /** Ends all watches, after storing what they said. */
  close(): void {
    this.flush();
    this.#callOff?.();
    for (const entry of this.#entries.values()) entry.stop();
    this.#entries.clear();
    for (const worker of this.#workers) worker.stop();
    this.#workers.clear();
  }

  #receive(worker: Paced, request: DiscoveryRequest): void {
    switch (request.type) {
      case "discovery.watch":
        this.#entry(request.target).subscribe(worker.send);
        return;
      case "discovery.unwatch": {
        const key = discoveryKey(request.target);
        this.#entries.get(key)?.unsubscribe(worker.send);
        this.#dropIfUnused(key);
        return;
      }
      case "discovery.suspect":
        this.#entries.get(discoveryKey(request.target))?.suspect();
        return;
      case "discovery.taken":
        worker.taken();
        return;
      default:
        request satisfies never;
    }
  }

  #detach(worker: Paced): void {
    this.#workers.delete(worker);
    worker.stop();
    for (const [key, entry] of this.#entries) {
      entry.unsubscribe(worker.send);
      this.#dropIfUnused(key);
    }
  }

  #entry(target: DiscoveryTarget): HubEntry {
    const key = discoveryKey(target);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = this.#make(target);
      this.#entries.set(key, entry);
      entry.start();
    }
    return entry;
  }

  #make(target: DiscoveryTarget): HubEntry {
    switch (target.kind) {
      case "inbound":
        return new InboundEntry(target.port, this.#deps);
      case "outbound":
        return new OutboundEntry(target.ip, target.port, this.#deps);
      case "endpoints":
        return new EndpointsEntry(target.path, this.#deps);
      default:
        return target satisfies never;
    }
  }

  #dropIfUnused(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined || !entry.unused || this.#kept.has(key)) return;
    this.#entries.delete(key);
    entry.stop();
  }

  #expireLater(): void {
    this.#callOff = this.#deps.timers.after(EXPIRE_EVERY_MS, () => {
      const wallMs = this.#deps.clock.wallMs();
      for (const entry of this.#entries.values()) entry.expire(wallMs);
      this.#expireLater();
    });
  }
}
