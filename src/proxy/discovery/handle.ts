import type { Endpoint } from "../core/endpoint.ts";
import type { DiscoveryFailure } from "../core/messages.ts";
import type { InboundPolicy, OutboundState } from "../policy/index.ts";

/** Someone who waits for a first answer. Called once, synchronously, when the handle is no longer pending. */
export interface Waiter {
  ready(): void;
}

export interface Listener {
  /** The handle's `current` or `state` is another than before. */
  changed(): void;
}

/** One entry of the worker's cache. All reads are synchronous; the object stays the same across updates. */
export interface Handle<T> {
  /** `failed` may become `ready` later; `ready` never goes back to `pending`. */
  readonly state: "pending" | "ready" | "failed";
  readonly current: T | undefined;
  /** Set while `failed`. */
  readonly failure: DiscoveryFailure | undefined;
  /** For logs and error texts; empty unless `failed`. */
  readonly why: string;
  /** Calls `ready` at once if not pending, else when that ends. */
  wait(waiter: Waiter): void;
  /** Withdraws a waiter, for instance of a connection that is gone. */
  cancel(waiter: Waiter): void;
  subscribe(listener: Listener): () => void;
  /** Counts a user. A handle nobody retains is dropped, and its watch ended, after the kind's idle time. */
  retain(): void;
  release(): void;
}

/**
 * `current` is the default policy until the first answer. `pending` lasts as long as a question to the main thread: who
 * is about to judge a connection waits for it; `failed` says that the control plane has not answered.
 */
export interface InboundPolicyHandle extends Handle<InboundPolicy> {
  readonly current: InboundPolicy;
}

export interface OutboundHandle extends Handle<OutboundState> {
  /** Where this leads nobody answers, or somebody else: the answer may be out of date. */
  suspect(): void;
}

export interface EndpointsListener {
  /**
   * The set changed: `add` are new or changed ones, `remove` keys that are gone. The arrays are not kept.
   * Also called, with both empty, when only the state changed.
   */
  changed(add: readonly Endpoint[], remove: readonly string[]): void;
}

/** The endpoints of a backend. `current` grows and shrinks in place; listeners get differences. */
export interface EndpointsHandle extends Omit<Handle<ReadonlyMap<string, Endpoint>>, "subscribe"> {
  readonly current: ReadonlyMap<string, Endpoint>;
  /** Endpoints that are named cannot be reached, or none is where some are wanted: the answer may be out of date. */
  suspect(): void;
  subscribe(listener: EndpointsListener): () => void;
}
