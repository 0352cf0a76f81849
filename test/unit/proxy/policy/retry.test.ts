import { describe, expect, it } from "vitest";
import {
  backoffMs,
  RetryBudget,
  type RetryPolicy,
  retriesGrpc,
  retriesStatus,
} from "../../../../src/proxy/policy/index.ts";

const policy: RetryPolicy = {
  maxRetries: 1,
  maxRequestBytes: 65_536,
  statusRanges: [
    { start: 429, end: 429 },
    { start: 502, end: 504 },
  ],
  grpcCodes: [14],
  timeoutMs: undefined,
  backoff: undefined,
};

describe("retry conditions", () => {
  it("hold within inclusive ranges", () => {
    const statuses = [200, 428, 429, 430, 501, 502, 504, 505];
    expect(statuses.filter((status) => retriesStatus(policy, status))).toEqual([429, 502, 504]);
  });

  it("hold for listed gRPC codes", () => {
    expect([0, 13, 14].filter((code) => retriesGrpc(policy, code))).toEqual([14]);
  });
});

describe("retry backoff", () => {
  const backoff = { minMs: 25, maxMs: 250, jitter: 1 };

  it("doubles up to the maximum", () => {
    expect([0, 1, 2, 3, 4, 60].map((n) => backoffMs(backoff, n, () => 0))).toEqual([25, 50, 100, 200, 250, 250]);
  });

  it("adds chance, but never beyond the maximum", () => {
    expect([0, 1, 3].map((n) => backoffMs(backoff, n, () => 0.5))).toEqual([37.5, 75, 250]);
  });
});

describe("retry budget", () => {
  it("lends its reserve", () => {
    const budget = new RetryBudget({ ratio: 0, minRetriesPerSecond: 1, ttlMs: 10_000 }, 0);
    let granted = 0;
    while (granted < 100 && budget.withdraw(1)) granted++;
    expect(granted).toBe(10);
    expect(budget.withdraw(9_000)).toBe(false);
    expect(budget.withdraw(11_000)).toBe(true);
  });

  it("allows a share of the requests", () => {
    const budget = new RetryBudget({ ratio: 0.2, minRetriesPerSecond: 0, ttlMs: 10_000 }, 0);
    expect(budget.withdraw(0)).toBe(false);
    for (let i = 0; i < 100; i++) budget.deposit(100);
    let granted = 0;
    while (granted < 200 && budget.withdraw(200)) granted++;
    expect(granted).toBe(20);
  });

  it("may allow more retries than requests", () => {
    const budget = new RetryBudget({ ratio: 2, minRetriesPerSecond: 0, ttlMs: 1_000 }, 0);
    budget.deposit(0);
    expect([budget.withdraw(0), budget.withdraw(0), budget.withdraw(0)]).toEqual([true, true, false]);
  });

  it("forgets deposits after its time to live", () => {
    const budget = new RetryBudget({ ratio: 1, minRetriesPerSecond: 0, ttlMs: 1_000 }, 0);
    budget.deposit(50);
    expect(budget.withdraw(1_100)).toBe(false);
    budget.deposit(1_100);
    expect(budget.withdraw(2_000)).toBe(true);
  });
});
