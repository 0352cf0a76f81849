import { describe, expect, it } from "vitest";
import {
  bucketKey,
  bucketRate,
  RATE_BUCKET_BYTES,
  RateBuckets,
  RateLimiter,
  type RateLimits,
} from "../../../../src/proxy/policy/index.ts";

const limits = (more: Partial<RateLimits>): RateLimits => ({
  ref: undefined,
  total: undefined,
  perIdentity: undefined,
  overrides: [],
  ...more,
});

const limiterOf = (more: Partial<RateLimits>, buckets = new RateBuckets()) =>
  new RateLimiter(limits(more), 8080, buckets);

describe("buckets (GCRA)", () => {
  const one = (limit: number) => {
    const buckets = new RateBuckets();
    const [key, rate] = [bucketKey("a"), bucketRate(limit)];
    return (now: number) => buckets.take(key, rate, now);
  };

  it("start full, and give one cell back every 1/n s", () => {
    const take = one(10);
    const burst = Array.from({ length: 12 }, () => take(0));
    expect(burst.filter(Boolean)).toHaveLength(10);
    expect(take(99)).toBe(false);
    expect(take(100)).toBe(true);
    expect(take(101)).toBe(false);
    expect(take(1_101)).toBe(true);
  });

  it("let an even stream at the limit pass for ever", () => {
    const take = one(7);
    let refused = 0;
    for (let i = 0; i < 70_000; i++) if (!take((i * 1000) / 7)) refused++;
    expect(refused).toBe(0);
  });

  it("let one request pass below 1/s", () => {
    const take = one(0.5);
    expect([take(0), take(1_000), take(2_000)]).toEqual([true, false, true]);
  });

  it("are the same for all who share their memory", () => {
    const memory = new SharedArrayBuffer(RATE_BUCKET_BYTES);
    const workers = [new RateBuckets(memory), new RateBuckets(memory), new RateBuckets(memory)];
    const [key, rate] = [bucketKey("a"), bucketRate(10)];
    let passed = 0;
    for (let i = 0; i < 30; i++) if (workers[i % 3]?.take(key, rate, 0)) passed++;
    expect(passed).toBe(10);
  });

  it("do not mistake one key for another while more are busy than there is room for", () => {
    const buckets = new RateBuckets();
    const rate = bucketRate(1);
    for (let i = 0; i < 20_000; i++) expect(buckets.take(bucketKey(`id-${i}`), rate, 0)).toBe(true);
    // The last ones are still there.
    expect(buckets.take(bucketKey("id-19999"), rate, 0)).toBe(false);
  });

  it("that are busy are kept while idle ones come and go", () => {
    const buckets = new RateBuckets();
    const [busy, rate] = [bucketKey("busy"), bucketRate(1)];
    let passed = 0;
    for (let ms = 0; ms < 10_000; ms++) {
      buckets.take(bucketKey(`id-${ms}`), bucketRate(100), ms);
      if (buckets.take(busy, rate, ms)) passed++;
    }
    expect(passed).toBe(10);
  });
});

describe("rate limits", () => {
  it("none: everything passes", () => {
    const limiter = limiterOf({});
    expect(Array.from({ length: 100 }, () => limiter.take("a", 0)).every((each) => each === undefined)).toBe(true);
  });

  it("total comes first, and is used up by what the next check refuses", () => {
    const limiter = limiterOf({ total: 3, perIdentity: 1 });
    expect(limiter.take("a", 0)).toBeUndefined();
    expect(limiter.take("a", 0)).toEqual({ which: "per-identity", limit: 1 });
    expect(limiter.take("b", 0)).toBeUndefined();
    expect(limiter.take("c", 0)).toEqual({ which: "total", limit: 3 });
  });

  it("clients without identity share a bucket", () => {
    const limiter = limiterOf({ perIdentity: 1 });
    expect(limiter.take(undefined, 0)).toBeUndefined();
    expect(limiter.take(undefined, 0)?.which).toBe("per-identity");
    expect(limiter.take("a", 0)).toBeUndefined();
  });

  it("an override replaces the identity's, and is shared by its identities", () => {
    const limiter = limiterOf({ perIdentity: 1, overrides: [{ limit: 2, identities: ["a", "b"] }] });
    expect([limiter.take("a", 0), limiter.take("b", 0)]).toEqual([undefined, undefined]);
    expect(limiter.take("a", 0)).toEqual({ which: "override", limit: 2 });
    expect(limiter.take("c", 0)).toBeUndefined();
  });

  it("an update that leaves a limit as it is leaves its bucket as it is; a new limit starts full", () => {
    const buckets = new RateBuckets();
    expect(limiterOf({ total: 1, perIdentity: 5 }, buckets).take("a", 0)).toBeUndefined();
    expect(limiterOf({ total: 1, perIdentity: 6 }, buckets).take("a", 0)?.which).toBe("total");
    expect(limiterOf({ total: 2, perIdentity: 6 }, buckets).take("a", 0)).toBeUndefined();
  });

  it("ports have buckets of their own", () => {
    const buckets = new RateBuckets();
    const [http, grpc] = [8080, 9090].map((port) => new RateLimiter(limits({ total: 1 }), port, buckets));
    expect([http?.take("a", 0), grpc?.take("a", 0)]).toEqual([undefined, undefined]);
  });

  it("holds for an identity whatever others come and go", () => {
    const limiter = limiterOf({ perIdentity: 1 });
    let passed = 0;
    for (let i = 0; i < 100_000; i++) {
      limiter.take(`id-${i}`, i);
      if (limiter.take("a", i) === undefined) passed++;
    }
    expect(passed).toBe(100);
  });
});
