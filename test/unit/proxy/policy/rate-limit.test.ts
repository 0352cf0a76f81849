import { describe, expect, it } from "vitest";
import { Gcra, RateLimiter, type RateLimits } from "../../../../src/proxy/policy/index.ts";

const limits = (more: Partial<RateLimits>): RateLimits => ({
  ref: undefined,
  total: undefined,
  perIdentity: undefined,
  overrides: [],
  ...more,
});

describe("GCRA", () => {
  it("starts full, and gives one cell back every 1/n s", () => {
    const bucket = new Gcra(10);
    const burst = Array.from({ length: 12 }, () => bucket.take(0));
    expect(burst.filter(Boolean)).toHaveLength(10);
    expect(bucket.take(99)).toBe(false);
    expect(bucket.take(100)).toBe(true);
    expect(bucket.take(101)).toBe(false);
    expect(bucket.take(1_101)).toBe(true);
  });

  it("lets an even stream at the limit pass for ever", () => {
    const bucket = new Gcra(7);
    let refused = 0;
    for (let i = 0; i < 70_000; i++) if (!bucket.take((i * 1000) / 7)) refused++;
    expect(refused).toBe(0);
  });

  it("lets one request pass below 1/s", () => {
    const bucket = new Gcra(0.5);
    expect([bucket.take(0), bucket.take(1_000), bucket.take(2_000)]).toEqual([true, false, true]);
  });
});

describe("rate limits", () => {
  it("none: everything passes", () => {
    const limiter = new RateLimiter(limits({}));
    expect(Array.from({ length: 100 }, () => limiter.take("a", 0)).every((each) => each === undefined)).toBe(true);
  });

  it("total comes first, and is used up by what the next check refuses", () => {
    const limiter = new RateLimiter(limits({ total: 3, perIdentity: 1 }));
    expect(limiter.take("a", 0)).toBeUndefined();
    expect(limiter.take("a", 0)).toEqual({ which: "per-identity", limit: 1 });
    expect(limiter.take("b", 0)).toBeUndefined();
    expect(limiter.take("c", 0)).toEqual({ which: "total", limit: 3 });
  });

  it("clients without identity share a bucket", () => {
    const limiter = new RateLimiter(limits({ perIdentity: 1 }));
    expect(limiter.take(undefined, 0)).toBeUndefined();
    expect(limiter.take(undefined, 0)?.which).toBe("per-identity");
    expect(limiter.take("a", 0)).toBeUndefined();
  });

  it("an override replaces the identity's, and is shared by its identities", () => {
    const limiter = new RateLimiter(limits({ perIdentity: 1, overrides: [{ limit: 2, identities: ["a", "b"] }] }));
    expect([limiter.take("a", 0), limiter.take("b", 0)]).toEqual([undefined, undefined]);
    expect(limiter.take("a", 0)).toEqual({ which: "override", limit: 2 });
    expect(limiter.take("c", 0)).toBeUndefined();
  });

  it("a worker takes its share, and names the whole limit", () => {
    const limiter = new RateLimiter(limits({ total: 10 }), 0.5);
    const passed = Array.from({ length: 10 }, () => limiter.take(undefined, 0)).filter((each) => each === undefined);
    expect(passed).toHaveLength(5);
    expect(limiter.take(undefined, 0)).toEqual({ which: "total", limit: 10 });
  });

  it("does not remember identities for ever", () => {
    const limiter = new RateLimiter(limits({ perIdentity: 1 }));
    for (let i = 0; i < 100_000; i++) limiter.take(`id-${i}`, i * 10);
    expect(limiter.remembered).toBeLessThan(3_000);
  });
});
