import type { Millis } from "../core/clock.ts";
import type { RateLimits } from "./model.ts";
import { type BucketRate, bucketKey, bucketRate, type RateBuckets } from "./rate-buckets.ts";

/** Which limit refused a request; the words are those of the error message. */
export interface RateLimited {
  readonly which: "total" | "per-identity" | "override";
  /** The configured limit, requests per second. */
  readonly limit: number;
}

interface Bucket {
  readonly key: bigint;
  readonly rate: BucketRate;
  readonly limit: number;
}

// Identities come from certificates of our own trust anchors, but there may be many over time.
const MAX_REMEMBERED = 1_024;

/**
 * The local rate limits of one port's policy. Only the buckets hold what was used up, and they are found by port, limit
 * and identity: an update that leaves a limit as it is leaves its buckets as they are, whatever else it changes.
 * @see inbound.md §6.7
 */
export class RateLimiter {
  readonly #limits: RateLimits;
  readonly #port: number;
  readonly #buckets: RateBuckets;
  readonly #total: Bucket | undefined;
  readonly #overrides = new Map<string, Bucket>();
  readonly #perIdentity: BucketRate | undefined;
  /** Keys only: forgetting them costs nothing but making them again. */
  readonly #identities = new Map<string | undefined, bigint>();

  constructor(limits: RateLimits, port: number, buckets: RateBuckets) {
    this.#limits = limits;
    this.#port = port;
    this.#buckets = buckets;
    const { total, perIdentity } = limits;
    this.#total = total === undefined ? undefined : this.#bucket("total", total);
    this.#perIdentity = perIdentity === undefined ? undefined : bucketRate(perIdentity);
    for (const { limit, identities } of limits.overrides) {
      const bucket = this.#bucket(`override ${identities.join(",")}`, limit);
      // All identities of an entry share one bucket; the first entry that names an identity has it.
      for (const id of identities) if (!this.#overrides.has(id)) this.#overrides.set(id, bucket);
    }
  }

  /**
   * Counts a request, after it was routed, authorized and filtered.
   * @param id - The client's identity; all clients without one share a bucket.
   * @returns undefined if it may pass. A request refused by the second check has still used up a cell of `total`.
   */
  take(id: string | undefined, now: Millis): RateLimited | undefined {
    const total = this.#total;
    if (total !== undefined && !this.#buckets.take(total.key, total.rate, now))
      return { which: "total", limit: total.limit };
    const override = id === undefined ? undefined : this.#overrides.get(id);
    if (override !== undefined) {
      const fits = this.#buckets.take(override.key, override.rate, now);
      return fits ? undefined : { which: "override", limit: override.limit };
    }
    const rate = this.#perIdentity;
    if (rate === undefined || this.#buckets.take(this.#keyOf(id), rate, now)) return undefined;
    return { which: "per-identity", limit: this.#limits.perIdentity as number };
  }

  #keyOf(id: string | undefined): bigint {
    let key = this.#identities.get(id);
    if (key === undefined) {
      if (this.#identities.size >= MAX_REMEMBERED) this.#identities.clear();
      key = bucketKey(`${this.#port} identity ${this.#limits.perIdentity} ${id ?? ""}`);
      this.#identities.set(id, key);
    }
    return key;
  }

  #bucket(name: string, limit: number): Bucket {
    return { key: bucketKey(`${this.#port} ${name} ${limit}`), rate: bucketRate(limit), limit };
  }
}
