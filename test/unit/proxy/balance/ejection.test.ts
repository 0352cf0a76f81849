import { describe, expect, it } from "vitest";
import { Breaker, type EjectionConfig, type EjectionOutcome } from "../../../../src/proxy/balance/index.ts";

const backoff = { minMs: 1_000, maxMs: 60_000, jitter: 0.5 };
const consecutive = (maxFailures: number): EjectionConfig => ({ kind: "consecutive", maxFailures, backoff });
const unified = (more: Partial<Extract<EjectionConfig, { kind: "unified" }>> = {}): EjectionConfig => ({
  kind: "unified",
  successRateThreshold: 0.8,
  windowMs: 10_000,
  minRequests: 5,
  maxConsecutiveFailures: 7,
  backoff,
  ...more,
});

/** Feeds one letter per outcome: s, f, d (degraded), a (abandoned). */
function feed(breaker: Breaker, outcomes: string, now = 0): Breaker["state"] {
  const names: Record<string, EjectionOutcome> = { s: "success", f: "failure", d: "degraded", a: "abandoned" };
  for (const letter of outcomes) breaker.record(names[letter] as EjectionOutcome, now, () => 0);
  return breaker.state;
}

describe("consecutive failures", () => {
  it.each([
    ["ff", "open"],
    ["fff", "shut"],
    ["ffsf", "open"],
    ["ffdff", "open"],
    ["ffaf", "shut"],
    ["dddddddd", "open"],
  ])("%s: %s", (outcomes, state) => {
    expect(feed(new Breaker(consecutive(3)), outcomes)).toBe(state);
  });

  it("never with 0", () => {
    expect(feed(new Breaker(consecutive(0)), "ffffffff")).toBe("open");
  });

  it("lets one probe through when the backoff is over", () => {
    const breaker = new Breaker(consecutive(1));
    feed(breaker, "f");
    expect([breaker.admits, breaker.timeoutAt()]).toEqual([false, 1_000]);
    breaker.expire(999);
    expect(breaker.admits).toBe(false);
    breaker.expire(1_000);
    expect([breaker.state, breaker.admits, breaker.timeoutAt()]).toEqual(["limited", true, undefined]);
    breaker.dispatched();
    expect([breaker.state, breaker.admits]).toEqual(["probing", false]);
    expect(feed(breaker, "s", 1_000)).toBe("open");
  });

  it("waits twice as long after every failed probe, and from the start after recovery", () => {
    const breaker = new Breaker(consecutive(1));
    const waits: number[] = [];
    let now = 0;
    feed(breaker, "f", now);
    for (let i = 0; i < 8; i++) {
      waits.push((breaker.timeoutAt() ?? 0) - now);
      now = breaker.timeoutAt() ?? 0;
      breaker.expire(now);
      breaker.dispatched();
      feed(breaker, "f", now);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    now = breaker.timeoutAt() ?? 0;
    breaker.expire(now);
    breaker.dispatched();
    feed(breaker, "sf", now);
    expect(breaker.timeoutAt()).toBe(now + 1_000);
  });

  it("adds jitter, never beyond the maximum", () => {
    const breaker = new Breaker({ ...consecutive(1), backoff: { minMs: 1_000, maxMs: 1_200, jitter: 0.5 } });
    breaker.record("failure", 0, () => 0.2);
    expect(breaker.timeoutAt()).toBe(1_100);
    const capped = new Breaker({ ...consecutive(1), backoff: { minMs: 1_000, maxMs: 1_200, jitter: 0.5 } });
    capped.record("failure", 0, () => 0.9);
    expect(capped.timeoutAt()).toBe(1_200);
  });

  it("ignores what ends while shut, and hands an abandoned probe on", () => {
    const breaker = new Breaker(consecutive(1));
    feed(breaker, "f");
    expect(feed(breaker, "s")).toBe("shut");
    breaker.expire(1_000);
    breaker.dispatched();
    expect(feed(breaker, "a", 1_000)).toBe("limited");
  });

  it("takes a degraded probe as good", () => {
    const breaker = new Breaker(consecutive(1));
    feed(breaker, "f");
    breaker.expire(1_000);
    breaker.dispatched();
    expect(feed(breaker, "d", 1_000)).toBe("open");
  });
});

describe("unified", () => {
  it.each([
    ["four bad ones are too few", "ffff", "open"],
    ["five bad ones", "fffff", "shut"],
    ["4 of 5 is just enough", "ssssf", "open"],
    ["3 of 5 is not", "sssff", "shut"],
    ["429s count against the rate", "ddddd", "shut"],
    ["abandoned ones do not count", "sssaaaaaf", "open"],
  ])("%s", (_, outcomes, state) => {
    expect(feed(new Breaker(unified()), outcomes)).toBe(state);
  });

  it("trips by a row as well", () => {
    const breaker = new Breaker(unified({ successRateThreshold: 0, maxConsecutiveFailures: 3 }));
    expect(feed(breaker, "ssssssff")).toBe("open");
    expect(feed(breaker, "f")).toBe("shut");
  });

  it("does not let 429s make a row", () => {
    const breaker = new Breaker(unified({ successRateThreshold: 0, maxConsecutiveFailures: 3 }));
    expect(feed(breaker, "ffdffdff")).toBe("open");
  });

  it("forgets what leaves the window", () => {
    const breaker = new Breaker(unified({ maxConsecutiveFailures: 0 }));
    feed(breaker, "ffff", 0);
    expect(feed(breaker, "f", 10_000)).toBe("open");
    const soon = new Breaker(unified({ maxConsecutiveFailures: 0 }));
    feed(soon, "ffff", 0);
    expect(feed(soon, "f", 9_999)).toBe("shut");
  });

  it("takes a degraded probe as bad, and starts clean after a good one", () => {
    const breaker = new Breaker(unified());
    feed(breaker, "fffff");
    breaker.expire(1_000);
    breaker.dispatched();
    expect(feed(breaker, "d", 1_000)).toBe("shut");
    breaker.expire(3_000);
    breaker.dispatched();
    expect(feed(breaker, "s", 3_000)).toBe("open");
    expect(feed(breaker, "ffff", 3_000)).toBe("open");
  });

  it("rounds the threshold to ten-thousandths", () => {
    const breaker = new Breaker(unified({ successRateThreshold: 0.66668, minRequests: 3, maxConsecutiveFailures: 0 }));
    expect(feed(breaker, "ssf")).toBe("shut");
    const lower = new Breaker(unified({ successRateThreshold: 0.66663, minRequests: 3, maxConsecutiveFailures: 0 }));
    expect(feed(lower, "ssf")).toBe("open");
  });
});
