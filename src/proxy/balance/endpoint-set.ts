import type { Millis, Rng } from "../core/clock.ts";
import { type Endpoint, sameButWeight } from "../core/endpoint.ts";
import { Breaker, type EjectionConfig, type EjectionOutcome } from "./ejection.ts";
import { type Load, PeakEwma, PenaltyPeakEwma } from "./ewma.ts";
import { pickOfTwo, pickOfTwoWeighted } from "./p2c.ts";

export type LoadEstimate =
  | { readonly kind: "peak-ewma"; readonly defaultRttMs: number; readonly decayMs: number }
  | { readonly kind: "penalty-peak-ewma"; readonly defaultRttMs: number; readonly decayMs: number };

const ONE = 10_000;
// What Linkerd's controller multiplies weights of the client's zone with, where it is told to (an experimental flag).
const NEAR = 10;

/** One endpoint in a set, with what is known about it. Held by requests under way even after it was removed. */
export class Slot<T> {
  /** As described last; but for its weight it does not change. */
  endpoint: Endpoint;
  readonly load: Load;
  readonly breaker: Breaker | undefined;
  /** The owner's: connections, service. */
  attachment: T | undefined;
  /** No new requests; those under way finish. */
  removed = false;
  /** What the owner says of its connections, breaker aside. */
  connected = false;
  /** Position among the ready; -1: not ready. The set's. */
  at = -1;
  /** How often it is drawn, and how much it can carry, in the control plane's unit: 10,000 is one. */
  share = 0;
  capacity = 0;

  constructor(endpoint: Endpoint, load: Load, breaker: Breaker | undefined) {
    this.endpoint = endpoint;
    this.load = load;
    this.breaker = breaker;
    this.weigh(endpoint);
  }

  /** @param endpoint - The same, of another weight. */
  weigh(endpoint: Endpoint): void {
    this.endpoint = endpoint;
    this.capacity = endpoint.weight;
    // A control plane that was told to weigh zones has done it already.
    const near = endpoint.zoneLocality === "local" && endpoint.weight === ONE;
    this.share = near ? endpoint.weight * NEAR : endpoint.weight;
  }
}

/** Who owns the connections of a set. Told about changes as they are made. */
export interface SlotOwner<T> {
  /** A new endpoint, or a known address with changed metadata: call {@link EndpointSet.setConnected} when it is. */
  added(slot: Slot<T>): void;
  /** Close what is idle, let the rest finish. */
  removed(slot: Slot<T>): void;
}

/**
 * The endpoints of one balancer: which exist, which are ready, and which of these to take. Endpoints that an update
 * does not change keep connections, load estimate and breaker.
 */
export class EndpointSet<T> {
  readonly #owner: SlotOwner<T>;
  readonly #load: LoadEstimate;
  readonly #ejection: EjectionConfig | undefined;
  readonly #slots = new Map<string, Slot<T>>();
  readonly #ready: Slot<T>[] = [];
  readonly #shut: Slot<T>[] = [];
  readonly #weighted: boolean;
  /** How many endpoints have which share. With one share for all, draws need not look at it. */
  readonly #shares = new Map<number, number>();
  #maxShare = 0;
  #wakeAt: Millis = Number.POSITIVE_INFINITY;

  /** @param weighted - Whether weights and zones of endpoints count; Linkerd's balancer reads neither. */
  constructor(owner: SlotOwner<T>, load: LoadEstimate, ejection: EjectionConfig | undefined, weighted = false) {
    this.#owner = owner;
    this.#load = load;
    this.#ejection = ejection;
    this.#weighted = weighted;
  }

  /** Endpoints known, ready or not. */
  get size(): number {
    return this.#slots.size;
  }

  get readyCount(): number {
    return this.#ready.length;
  }

  slots(): IterableIterator<Slot<T>> {
    return this.#slots.values();
  }

  /** Adds or replaces `add`, removes the keys in `remove`; unknown keys are ignored. */
  change(add: Iterable<Endpoint>, remove: Iterable<string>, now: Millis): void {
    for (const key of remove) this.#remove(key);
    for (const endpoint of add) this.#put(endpoint, now);
  }

  /** Makes the set hold exactly these. */
  reset(endpoints: Iterable<Endpoint>, now: Millis): void {
    const gone = new Set(this.#slots.keys());
    for (const endpoint of endpoints) {
      gone.delete(endpoint.key);
      this.#put(endpoint, now);
    }
    for (const key of gone) this.#remove(key);
  }

  /** Says whether a slot can take requests, its breaker aside. */
  setConnected(slot: Slot<T>, connected: boolean): void {
    slot.connected = connected;
    this.#settle(slot);
  }

  /**
   * Chooses an endpoint by power of two choices among the ready. It is not yet dispatched to.
   * @returns undefined: none is ready; wait for an `added` endpoint to connect, or for {@link timeoutAt}.
   */
  pick(rng: Rng, now: Millis): Slot<T> | undefined {
    if (now >= this.#wakeAt) this.expire(now);
    return this.#shares.size > 1
      ? pickOfTwoWeighted(this.#ready, this.#maxShare, rng, now)
      : pickOfTwo(this.#ready, rng, now);
  }

  /** A request goes to the endpoint. */
  dispatched(slot: Slot<T>): void {
    slot.load.pending++;
    if (slot.breaker === undefined) return;
    slot.breaker.dispatched();
    this.#settle(slot);
  }

  /**
   * The request that was dispatched at `dispatchedAt` is measured: at the first frame of the response body, or when it
   * ended, failed or was cancelled before that. Exactly once per {@link dispatched}.
   * @param penaltyMs - See `penaltyOf`; counts only with the load estimate that knows penalties.
   */
  measured(slot: Slot<T>, dispatchedAt: Millis, now: Millis, penaltyMs?: Millis): void {
    slot.load.pending--;
    if (penaltyMs !== undefined && slot.load instanceof PenaltyPeakEwma) slot.load.penalize(penaltyMs, now);
    else slot.load.observe(now - dispatchedAt, now);
  }

  /** The request is over and it is known how it went. Exactly once per {@link dispatched}. */
  classified(slot: Slot<T>, outcome: EjectionOutcome, now: Millis, rng: Rng): void {
    const { breaker } = slot;
    if (breaker === undefined) return;
    const before = breaker.state;
    breaker.record(outcome, now, rng, this.#ready.length > (this.#ejection?.minReady ?? 0));
    if (breaker.state === before) return;
    this.#settle(slot);
    const shutUntil = breaker.timeoutAt();
    if (shutUntil === undefined || slot.removed) return;
    this.#shut.push(slot);
    this.#wakeAt = Math.min(this.#wakeAt, shutUntil);
  }

  /** When an ejected endpoint is due for a probe; undefined: none is ejected. */
  timeoutAt(): Millis | undefined {
    return this.#wakeAt === Number.POSITIVE_INFINITY ? undefined : this.#wakeAt;
  }

  /** Makes ejected endpoints whose time has come ready for one probe. */
  expire(now: Millis): void {
    let wakeAt = Number.POSITIVE_INFINITY;
    let kept = 0;
    for (const slot of this.#shut) {
      slot.breaker?.expire(now);
      const shutUntil = slot.removed ? undefined : slot.breaker?.timeoutAt();
      if (shutUntil === undefined) {
        this.#settle(slot);
      } else {
        this.#shut[kept++] = slot;
        wakeAt = Math.min(wakeAt, shutUntil);
      }
    }
    this.#shut.length = kept;
    this.#wakeAt = wakeAt;
  }

  #put(endpoint: Endpoint, now: Millis): void {
    const known = this.#slots.get(endpoint.key);
    if (known !== undefined) {
      if (sameButWeight(known.endpoint, endpoint)) return this.#reweigh(known, endpoint);
      this.#remove(endpoint.key);
    }
    const { kind, defaultRttMs, decayMs } = this.#load;
    const load =
      kind === "peak-ewma" ? new PeakEwma(defaultRttMs, decayMs, now) : new PenaltyPeakEwma(defaultRttMs, decayMs, now);
    const breaker = this.#ejection === undefined ? undefined : new Breaker(this.#ejection);
    const slot = new Slot<T>(endpoint, load, breaker);
    this.#slots.set(endpoint.key, slot);
    this.#countShare(slot.share, 1);
    this.#owner.added(slot);
  }

  #remove(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    this.#slots.delete(key);
    this.#countShare(slot.share, -1);
    slot.removed = true;
    this.#settle(slot);
    this.#owner.removed(slot);
  }

  /** Linkerd makes the endpoint anew for it; to us a weight is no reason to lose connections and what is known. */
  #reweigh(slot: Slot<T>, endpoint: Endpoint): void {
    if (slot.endpoint.weight === endpoint.weight) return;
    this.#countShare(slot.share, -1);
    slot.weigh(endpoint);
    this.#countShare(slot.share, 1);
  }

  #countShare(share: number, by: 1 | -1): void {
    if (!this.#weighted) return;
    const count = (this.#shares.get(share) ?? 0) + by;
    if (count > 0) {
      this.#shares.set(share, count);
      this.#maxShare = Math.max(this.#maxShare, share);
      return;
    }
    this.#shares.delete(share);
    if (share < this.#maxShare) return;
    this.#maxShare = 0;
    for (const other of this.#shares.keys()) this.#maxShare = Math.max(this.#maxShare, other);
  }

  /** Puts a slot into the list of the ready ones or takes it out, in constant time. */
  #settle(slot: Slot<T>): void {
    const ready = slot.connected && !slot.removed && slot.breaker?.admits !== false;
    if (ready === slot.at >= 0) return;
    if (ready) {
      slot.at = this.#ready.push(slot) - 1;
      return;
    }
    const last = this.#ready.pop() as Slot<T>;
    if (last !== slot) {
      this.#ready[slot.at] = last;
      last.at = slot.at;
    }
    slot.at = -1;
  }
}
