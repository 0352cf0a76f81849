import type { Millis } from "../core/clock.ts";

/** One limit's rate, in the whole nanoseconds that buckets count in. */
export interface BucketRate {
  /** Between two requests that the limit permits. */
  readonly interval: bigint;
  /** How far ahead of time a burst may run. */
  readonly burst: bigint;
}

// Key and time, both 64 bits.
const CELL_WORDS = 2;
const BYTES_PER_CELL = CELL_WORDS * BigInt64Array.BYTES_PER_ELEMENT;
// A key lives in one of so many cells behind its own; beyond that the emptiest loses its count.
const PROBES = 8;
// 64 KiB: as many identities as may be busy within one second are many fewer.
const CELLS = 4_096;

/** Bytes of the memory that {@link RateBuckets} wants, for every worker the same. */
export const RATE_BUCKET_BYTES: number = CELLS * BYTES_PER_CELL;

/** @param limit - Requests per second, above 0; below 1 the burst is still one request. */
export function bucketRate(limit: number): BucketRate {
  const interval = BigInt(Math.round(1e9 / limit));
  return { interval, burst: (interval * BigInt(Math.round(Math.max(1, limit) * 1_000))) / 1_000n };
}

/** Where a bucket is kept. The same text is the same bucket, in all workers and over all updates of a policy. */
export function bucketKey(text: string): bigint {
  // Two FNV-1a hashes with different starts. 0 marks an empty cell.
  let low = 0x811c9dc5;
  let high = 0x2f6b8a1d;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x01000193) ^ (high >>> 15);
  }
  return BigInt.asIntN(64, (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) || 1n;
}

/**
 * Buckets of the generic cell rate algorithm in memory that all workers share: a limit is a limit of the host, and a
 * client that keeps to one connection, thus to one worker, has all of it. A full bucket is no bucket, so nothing is ever
 * given back: cells are taken over once they are full.
 *
 * The clocks of all workers must agree.
 */
export class RateBuckets {
  readonly #cells: BigInt64Array;
  readonly #count: number;

  /** @param memory - Zeroed at first; by default its own, for one worker alone. */
  constructor(memory: ArrayBuffer | SharedArrayBuffer = new ArrayBuffer(RATE_BUCKET_BYTES)) {
    this.#cells = new BigInt64Array(memory);
    this.#count = this.#cells.length / CELL_WORDS;
  }

  /** @returns Whether the request fits; if so it is counted. */
  take(key: bigint, rate: BucketRate, nowMs: Millis): boolean {
    const now = BigInt(Math.round(nowMs * 1e6));
    const cells = this.#cells;
    const at = this.#cell(key, now) + 1;
    for (;;) {
      const fullAt = Atomics.load(cells, at);
      const next = (fullAt > now ? fullAt : now) + rate.interval;
      if (next - now > rate.burst) return false;
      // Another worker counted meanwhile: look again.
      if (Atomics.compareExchange(cells, at, fullAt, next) === fullAt) return true;
    }
  }

  #cell(key: bigint, now: bigint): number {
    const cells = this.#cells;
    const home = Number(BigInt.asUintN(32, key)) % this.#count;
    for (;;) {
      let free = -1;
      let emptiest = 0;
      let emptiestAt = 0n;
      for (let probe = 0; probe < PROBES; probe++) {
        const at = ((home + probe) % this.#count) * CELL_WORDS;
        const held = Atomics.load(cells, at);
        if (held === key) return at;
        const fullAt = Atomics.load(cells, at + 1);
        if (free < 0 && (held === 0n || fullAt <= now)) free = at;
        if (probe === 0 || fullAt < emptiestAt) {
          emptiest = at;
          emptiestAt = fullAt;
        }
      }
      const at = free < 0 ? emptiest : free;
      const held = Atomics.load(cells, at);
      if (Atomics.compareExchange(cells, at, held, key) !== held) continue;
      Atomics.store(cells, at + 1, 0n);
      return at;
    }
  }
}
