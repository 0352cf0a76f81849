import { canonicalIp } from "../core/address.ts";
import type { Clock, Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { type DiscoveryFailure, type DiscoveryRequest, type DiscoveryTarget, discoveryKey } from "../core/messages.ts";
import type { InboundPolicy, OutboundState } from "../policy/index.ts";
import type {
  EndpointsHandle,
  EndpointsListener,
  Handle,
  InboundPolicyHandle,
  Listener,
  OutboundHandle,
  Waiter,
} from "./handle.ts";
import type { DiscoveryMessage } from "./messages.ts";
import { isLong } from "./paced.ts";
import { installInboundPatterns, installOutboundPatterns } from "./regex.ts";

export interface DiscoveryClientOptions {
  readonly clock: Pick<Clock, "now">;
  /** What an inbound port accepts until its first answer. */
  readonly defaultInbound: (port: number) => InboundPolicy;
  /** How long an unused inbound entry is kept; default 90 s. */
  readonly inboundIdleMs?: Millis;
  /** How long an unused outbound or endpoints entry is kept; default 5 s. */
  readonly outboundIdleMs?: Millis;
  /** Does a piece of work when there is time for it; default: at once. */
  readonly later?: (piece: () => void) => void;
}

/** Where requests to the hub go: the worker's message port. */
export interface DiscoveryPort {
  postMessage(message: DiscoveryRequest): void;
}

/**
 * The worker's side of discovery: a synchronous cache. A target is asked for once, and its answers arrive through
 * {@link receive} for as long as somebody retains the handle.
 */
export class DiscoveryClient {
  readonly #port: DiscoveryPort;
  readonly #clock: Pick<Clock, "now">;
  readonly #defaultInbound: (port: number) => InboundPolicy;
  readonly #inboundIdleMs: Millis;
  readonly #outboundIdleMs: Millis;
  readonly #later: (piece: () => void) => void;
  readonly #inbound = new Map<number, InboundEntry>();
  readonly #outbound = new Map<string, OutboundEntry>();
  readonly #endpoints = new Map<string, EndpointsEntry>();
  /** All of the above, by {@link discoveryKey}. */
  readonly #entries = new Map<string, AnyEntry>();

  constructor(port: DiscoveryPort, options: DiscoveryClientOptions) {
    this.#port = port;
    this.#clock = options.clock;
    this.#defaultInbound = options.defaultInbound;
    this.#inboundIdleMs = options.inboundIdleMs ?? 90_000;
    this.#outboundIdleMs = options.outboundIdleMs ?? 5_000;
    this.#later = options.later ?? ((piece) => piece());
  }

  /** The policy of a port of this host. Its `current` is never undefined. */
  inbound(port: number): InboundPolicyHandle {
    let entry = this.#inbound.get(port);
    if (entry === undefined) {
      entry = new InboundEntry({ kind: "inbound", port }, this.#clock, this.#inboundIdleMs, this.#defaultInbound(port));
      this.#inbound.set(port, entry);
      this.#open(entry);
    }
    return entry;
  }

  /** Policy and profile for an original destination. */
  outbound(ip: string, port: number): OutboundHandle {
    const name = `${ip} ${port}`;
    let entry = this.#outbound.get(name);
    if (entry === undefined) {
      const target: DiscoveryTarget = { kind: "outbound", ip: canonicalIp(ip) ?? ip, port };
      entry = (this.#entries.get(discoveryKey(target)) as OutboundEntry | undefined) ?? this.#newOutbound(target);
      this.#outbound.set(name, entry);
    }
    return entry;
  }

  /** The endpoints behind a balancer's `name:port`. */
  endpoints(path: string): EndpointsHandle {
    let entry = this.#endpoints.get(path);
    if (entry === undefined) {
      entry = new EndpointsEntry({ kind: "endpoints", path }, this.#clock, this.#outboundIdleMs, this.#port);
      this.#endpoints.set(path, entry);
      this.#open(entry);
    }
    return entry;
  }

  /** Takes a message of the hub. Messages about targets that nobody wants any more are ignored. */
  receive(message: DiscoveryMessage): void {
    const entry = this.#entries.get(message.key);
    if (entry !== undefined) this.#take(entry, message);
    // Also of one that nobody wants any more: the next may be about another.
    if (isLong(message)) this.#later(() => this.#taken(message.key));
  }

  #take(entry: AnyEntry, message: DiscoveryMessage): void {
    switch (message.type) {
      case "discovery.inbound":
        installInboundPatterns(message.value);
        (entry as InboundEntry).set(message.value);
        return;
      case "discovery.outbound":
        installOutboundPatterns(message.value.policy);
        (entry as OutboundEntry).set(message.value);
        return;
      case "discovery.endpoints":
        (entry as EndpointsEntry).apply(message.reset, message.add, message.remove);
        return;
      case "discovery.failed":
        entry.fail(message.failure, message.why);
        return;
      default:
        message satisfies never;
    }
  }

  /** Drops what nobody used for its idle time. Call it about once a second. */
  expire(now: Millis): void {
    for (const [key, entry] of this.#entries) {
      if (!entry.idle(now)) continue;
      this.#entries.delete(key);
      if (entry.target.kind === "inbound") this.#inbound.delete(entry.target.port);
      else if (entry.target.kind === "endpoints") this.#endpoints.delete(entry.target.path);
      else for (const [name, other] of this.#outbound) if (other === entry) this.#outbound.delete(name);
      this.#port.postMessage({ type: "discovery.unwatch", target: entry.target });
    }
  }

  /** Entries in the cache, for `status` and tests. */
  get size(): number {
    return this.#entries.size;
  }

  #taken(key: string): void {
    const path = key.slice(discoveryKey({ kind: "endpoints", path: "" }).length);
    this.#port.postMessage({ type: "discovery.taken", target: { kind: "endpoints", path } });
  }

  #newOutbound(target: DiscoveryTarget): OutboundEntry {
    const entry = new OutboundEntry(target, this.#clock, this.#outboundIdleMs, this.#port);
    this.#open(entry);
    return entry;
  }

  #open(entry: AnyEntry): void {
    this.#entries.set(discoveryKey(entry.target), entry);
    this.#port.postMessage({ type: "discovery.watch", target: entry.target });
  }
}

type AnyEntry = OutboundEntry | InboundEntry | EndpointsEntry;

/** What all kinds share: state, waiters, users. */
class BaseEntry {
  readonly target: DiscoveryTarget;
  readonly #clock: Pick<Clock, "now">;
  readonly #idleMs: Millis;
  state: "pending" | "ready" | "failed" = "pending";
  failure: DiscoveryFailure | undefined;
  why = "";
  #waiters: Waiter[] = [];
  #users = 0;
  #unusedSince: Millis;

  constructor(target: DiscoveryTarget, clock: Pick<Clock, "now">, idleMs: Millis) {
    this.target = target;
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#unusedSince = clock.now();
  }

  wait(waiter: Waiter): void {
    if (this.state === "pending") this.#waiters.push(waiter);
    else waiter.ready();
  }

  cancel(waiter: Waiter): void {
    const at = this.#waiters.indexOf(waiter);
    if (at >= 0) this.#waiters.splice(at, 1);
  }

  retain(): void {
    this.#users++;
  }

  release(): void {
    if (this.#users > 0) this.#users--;
    if (this.#users === 0) this.#unusedSince = this.#clock.now();
  }

  idle(now: Millis): boolean {
    return this.#users === 0 && this.#waiters.length === 0 && now - this.#unusedSince >= this.#idleMs;
  }

  protected settle(state: "ready" | "failed", failure: DiscoveryFailure | undefined, why: string): void {
    this.state = state;
    this.failure = failure;
    this.why = why;
  }

  /** After listeners, so that whoever was waiting finds everything in its new state. */
  protected wake(): void {
    const waiters = this.#waiters;
    if (waiters.length === 0) return;
    this.#waiters = [];
    for (const waiter of waiters) waiter.ready();
  }
}

class Entry<T> extends BaseEntry implements Handle<T> {
  current: T | undefined;
  readonly #listeners = new Set<Listener>();

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(value: T): void {
    this.current = value;
    this.settle("ready", undefined, "");
    this.#notify();
  }

  fail(failure: DiscoveryFailure, why: string): void {
    this.settle("failed", failure, why);
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener.changed();
    this.wake();
  }
}

class OutboundEntry extends Entry<OutboundState> implements OutboundHandle {
  readonly #port: DiscoveryPort;

  constructor(target: DiscoveryTarget, clock: Pick<Clock, "now">, idleMs: Millis, port: DiscoveryPort) {
    super(target, clock, idleMs);
    this.#port = port;
  }

  suspect(): void {
    this.#port.postMessage({ type: "discovery.suspect", target: this.target });
  }
}

class InboundEntry extends Entry<InboundPolicy> {
  declare current: InboundPolicy;

  constructor(target: DiscoveryTarget, clock: Pick<Clock, "now">, idleMs: Millis, initial: InboundPolicy) {
    super(target, clock, idleMs);
    installInboundPatterns(initial);
    this.current = initial;
  }
}

const NONE: readonly never[] = [];

class EndpointsEntry extends BaseEntry implements EndpointsHandle {
  readonly current = new Map<string, Endpoint>();
  readonly #listeners = new Set<EndpointsListener>();
  readonly #port: DiscoveryPort;

  constructor(target: DiscoveryTarget, clock: Pick<Clock, "now">, idleMs: Millis, port: DiscoveryPort) {
    super(target, clock, idleMs);
    this.#port = port;
  }

  suspect(): void {
    this.#port.postMessage({ type: "discovery.suspect", target: this.target });
  }

  subscribe(listener: EndpointsListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  apply(reset: boolean, add: readonly Endpoint[], remove: readonly string[]): void {
    let gone = remove;
    if (reset && this.current.size > 0) {
      const kept = new Set<string>();
      for (const endpoint of add) kept.add(endpoint.key);
      gone = [...this.current.keys()].filter((key) => !kept.has(key));
    }
    for (const key of gone) this.current.delete(key);
    for (const endpoint of add) this.current.set(endpoint.key, endpoint);
    this.settle("ready", undefined, "");
    this.#notify(add, gone);
  }

  fail(failure: DiscoveryFailure, why: string): void {
    this.settle("failed", failure, why);
    this.#notify(NONE, NONE);
  }

  #notify(add: readonly Endpoint[], remove: readonly string[]): void {
    for (const listener of this.#listeners) listener.changed(add, remove);
    this.wake();
  }
}
