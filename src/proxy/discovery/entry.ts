import type { Cidr } from "../core/address.ts";
import type { Clock, Rng } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { type DiscoveryFailure, type DiscoveryTarget, discoveryKey } from "../core/messages.ts";
import type { AnswerCache } from "./cache.ts";
import type { DiscoveryMessage } from "./messages.ts";
import type { GrpcClient, Timers, WatchLimits } from "./watch.ts";

/** Somewhere to send answers: a worker. */
export type Send = (message: DiscoveryMessage) => void;

/** What every entry of the hub needs. */
export interface EntryDeps {
  /** The destination controller, 8086; undefined while there is no connection. Asked anew for every stream. */
  readonly destination: () => GrpcClient | undefined;
  /** The policy controller, 8090. */
  readonly policy: () => GrpcClient | undefined;
  /** `context_token` of destination calls. */
  readonly contextToken: () => string;
  /** `workload` of policy calls. */
  readonly policyWorkload: () => string;
  /** Original destinations outside these get no profile; Linkerd's `clusterNetworks`. */
  readonly profileNetworks: () => readonly Cidr[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly limits: WatchLimits | undefined;
  /** How long an unknown destination may remain so. */
  readonly timeoutMs: number;
  /** How old an answer may become without a word from the control plane. */
  readonly maxStaleMs: number;
  readonly cache: AnswerCache;
  /** Whether the control plane is being heard at this moment, on any watch. */
  readonly heard: () => boolean;
  readonly log: Logger;
}

// An answer of a healthy control plane takes some ten; this is for one that has just gone without a word.
const STORED_AFTER_MS = 300;

/** What `status` and `explain` show of one watch. */
export interface EntryStatus {
  readonly key: string;
  readonly target: DiscoveryTarget;
  readonly state: "pending" | "ready" | "failed";
  /** Where the present answer comes from. */
  readonly source: "live" | "stored" | "none";
  /** Whether the control plane is being heard right now. */
  readonly connected: boolean;
  /** Since the answer was last confirmed; undefined without one. */
  readonly ageMs: number | undefined;
  /** The last error, empty if all is well. */
  readonly why: string;
  /** Endpoints known; undefined for other kinds. */
  readonly endpoints: number | undefined;
}

/** Whether two answers say the same. They are plain data in a fixed order of fields. */
export function sameAnswer(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** One target that is being watched, for all workers together. */
export abstract class HubEntry {
  readonly target: DiscoveryTarget;
  readonly key: string;
  protected readonly deps: EntryDeps;
  readonly #workers = new Set<Send>();
  #state: "pending" | "ready" | "failed" = "pending";
  #source: "live" | "stored" | "none" = "none";
  #failure: DiscoveryFailure = "unreachable";
  #why = "";
  /** Unix milliseconds: ages must survive a restart. */
  #confirmedAtMs: number | undefined;
  #withdraw: (() => void) | undefined;

  constructor(target: DiscoveryTarget, deps: EntryDeps) {
    this.target = target;
    this.key = discoveryKey(target);
    this.deps = deps;
  }

  abstract start(): void;
  abstract stop(): void;
  abstract retryNow(): void;
  /** Whether every stream of this entry is open and has said something, or has been refused for good. */
  abstract connected(): boolean;
  /** The present value as messages to a worker that has none yet. */
  protected abstract snapshot(): readonly DiscoveryMessage[];
  /** What a worker is told that asks before there is an answer. */
  protected unanswered(): readonly DiscoveryMessage[] {
    return [];
  }

  /** Whether an answer older than `maxStale` is to be given up. */
  protected abstract readonly expires: boolean;

  get unused(): boolean {
    return this.#workers.size === 0;
  }

  subscribe(send: Send): void {
    if (this.#workers.has(send)) return;
    this.#workers.add(send);
    for (const message of this.#present()) send(message);
  }

  unsubscribe(send: Send): void {
    this.#workers.delete(send);
  }

  /** A worker finds that the answer does not hold. Most kinds have no way to tell. */
  suspect(): void {}

  /** Gives up an answer that nobody confirmed for too long; confirms one whose stream is open. */
  expire(wallMs: number): void {
    if (this.#state !== "ready") return;
    if (this.connected()) this.#confirmedAtMs = wallMs;
    else if (this.expires && wallMs - (this.#confirmedAtMs ?? wallMs) > this.deps.maxStaleMs) {
      this.fail("stale", "no word from the control plane for longer than discovery.maxStale");
    }
  }

  status(wallMs: number): EntryStatus {
    const connected = this.connected();
    return {
      key: this.key,
      target: this.target,
      state: this.#state,
      source: this.#source,
      connected,
      ageMs: this.#confirmedAtMs === undefined ? undefined : connected ? 0 : Math.max(0, wallMs - this.#confirmedAtMs),
      why: this.#why,
      endpoints: undefined,
    };
  }

  protected get state(): "pending" | "ready" | "failed" {
    return this.#state;
  }

  /** An answer is there, or is another: workers hear `messages`. */
  protected publish(source: "live" | "stored", confirmedAtMs: number, messages: readonly DiscoveryMessage[]): void {
    this.#source = source;
    this.#confirmedAtMs = confirmedAtMs;
    if (source === "live") this.#why = "";
    this.#state = "ready";
    for (const send of this.#workers) for (const message of messages) send(message);
  }

  /**
   * The present value is what the control plane said earlier: used at once while nobody hears it, else only if it does
   * not answer soon. An address that was right hours ago may be somebody else's by now.
   */
  protected offer(confirmedAtMs: number): void {
    const use = () => this.publish("stored", confirmedAtMs, this.snapshot());
    if (this.#state !== "pending" || !this.deps.heard()) return use();
    this.#withdraw?.();
    this.#withdraw = this.deps.timers.after(STORED_AFTER_MS, () => {
      if (this.#state === "pending") use();
    });
  }

  /** For a `stop` after {@link offer}. */
  protected withdraw(): void {
    this.#withdraw?.();
  }

  /** The control plane said the same as before. */
  protected confirm(): void {
    this.#confirmedAtMs = this.deps.clock.wallMs();
    this.#source = "live";
    this.#why = "";
  }

  protected fail(failure: DiscoveryFailure, why: string): void {
    this.#state = "failed";
    this.#failure = failure;
    this.#why = why;
    this.deps.log.warn("discovery failed", { target: this.key, failure, why });
    const message = this.#failedMessage();
    for (const send of this.#workers) send(message);
  }

  protected interrupted(why: string): void {
    if (this.#why !== why) this.deps.log.debug("discovery interrupted", { target: this.key, why });
    this.#why = why;
  }

  #present(): readonly DiscoveryMessage[] {
    switch (this.#state) {
      case "pending":
        return this.unanswered();
      case "ready":
        return this.snapshot();
      case "failed":
        return [this.#failedMessage()];
      default:
        return this.#state satisfies never;
    }
  }

  #failedMessage(): DiscoveryMessage {
    return { type: "discovery.failed", key: this.key, failure: this.#failure, why: this.#why };
  }
}
