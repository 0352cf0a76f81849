import type { Millis } from "../core/clock.ts";
import type { RateLimits } from "./model.ts";

/** Which limit refused a request; the words are those of the error message. */
export interface RateLimited {
  readonly which: "total" | "per-identity" | "override";
  /** The configured limit, requests per second. */
  readonly limit: number;
}

/**
 * One bucket of the generic cell rate algorithm: `limit` requests per second, with a burst of as many, full at first.
 */
export class Gcra {
  readonly #intervalMs: number;
  readonly #burstMs: number;
  /** Theoretical arrival time: the bucket is full again at this moment. */
  #fullAt = Number.NEGATIVE_INFINITY;

  /** @param limit - Requests per second, above 0; below 1 the burst is still one request. */
  constructor(limit: number) {
    this.#intervalMs = 1000 / limit;
    this.#burstMs = this.#intervalMs * Math.max(1, limit);
  }

  /** @returns Whether the request fits; if so it is counted. */
  take(now: Millis): boolean {
    const next = Math.max(now, this.#fullAt) + this.#intervalMs;
    // A rounding error of many additions must not cost a request.
    if (next - now > this.#burstMs + 1e-6) return false;
    this.#fullAt = next;
    return true;
  }

  /** Whether nothing is lost by forgetting this bucket. */
  full(now: Millis): boolean {
    return this.#fullAt <= now;
  }
}

// Identities come from certificates of our own trust anchors, but there may be many over time.
const PRUNE_ABOVE = 1024;

/**
 * The local rate limits of one port's policy. Made anew at every change of that policy, which fills all buckets.
 * @see inbound.md §6.7
 */
export class RateLimiter {
  readonly #limits: RateLimits;
  readonly #share: number;
  readonly #total: Gcra | undefined;
  readonly #overrides = new Map<string, { readonly limit: number; readonly bucket: Gcra }>();
  readonly #identities = new Map<string | undefined, Gcra>();
  #pruneAbove = PRUNE_ABOVE;

  /** @param share - This worker's part of the limits, above 0 up to 1: limits are per host, buckets per worker. */
  constructor(limits: RateLimits, share = 1) {
    this.#limits = limits;
    this.#share = share;
    this.#total = limits.total === undefined ? undefined : new Gcra(limits.total * share);
    for (const { limit, identities } of limits.overrides) {
      const bucket = new Gcra(limit * share);
      // All identities of an entry share one bucket; the first entry that names an identity has it.
      for (const id of identities) if (!this.#overrides.has(id)) this.#overrides.set(id, { limit, bucket });
    }
  }

  /**
   * Counts a request, after it was routed, authorized and filtered.
   * @param id - The client's identity; all clients without one share a bucket.
   * @returns undefined if it may pass. A request refused by the second check has still used up a cell of `total`.
   */
  take(id: string | undefined, now: Millis): RateLimited | undefined {
    const { total, perIdentity } = this.#limits;
    if (this.#total !== undefined && total !== undefined && !this.#total.take(now)) {
      return { which: "total", limit: total };
    }
    const override = id === undefined ? undefined : this.#overrides.get(id);
    if (override !== undefined) {
      return override.bucket.take(now) ? undefined : { which: "override", limit: override.limit };
    }
    if (perIdentity === undefined) return undefined;
    let bucket = this.#identities.get(id);
    if (bucket === undefined) {
      if (this.#identities.size >= this.#pruneAbove) this.#prune(now);
      bucket = new Gcra(perIdentity * this.#share);
      this.#identities.set(id, bucket);
    }
    return bucket.take(now) ? undefined : { which: "per-identity", limit: perIdentity };
  }

  /** Identities with a bucket of their own. */
  get remembered(): number {
    return this.#identities.size;
  }

  #prune(now: Millis): void {
    for (const [id, bucket] of this.#identities) if (bucket.full(now)) this.#identities.delete(id);
    // With many busy identities, scanning for every new one would be quadratic.
    this.#pruneAbove = Math.max(PRUNE_ABOVE, 2 * this.#identities.size);
  }
}
