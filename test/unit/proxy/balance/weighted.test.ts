import { describe, expect, it } from "vitest";
import { firstAvailable, randomAvailable } from "../../../../src/proxy/balance/index.ts";
import { seededRng } from "../../../support/rng.ts";

interface Backend {
  readonly name: string;
  readonly weight: number;
  readonly ready: boolean;
}
const backend = (name: string, weight: number, ready = true): Backend => ({ name, weight, ready });
const isReady = (each: Backend): boolean => each.ready;

function shares(backends: readonly Backend[]): Record<string, number> {
  const rng = seededRng(7);
  const counts: Record<string, number> = {};
  for (let i = 0; i < 10_000; i++) {
    const name = randomAvailable(backends, isReady, rng)?.name ?? "none";
    counts[name] = (counts[name] ?? 0) + 1 / 10_000;
  }
  return counts;
}

describe("first available", () => {
  it("is the first that is ready", () => {
    expect(firstAvailable([backend("a", 1, false), backend("b", 1)], isReady)?.name).toBe("b");
    expect(firstAvailable([backend("a", 1, false)], isReady)).toBeUndefined();
    expect(firstAvailable([], isReady)).toBeUndefined();
  });
});

describe("random available", () => {
  it("draws by weight", () => {
    const counts = shares([backend("a", 1), backend("b", 3)]);
    expect(counts["a"]).toBeCloseTo(0.25, 1);
    expect(counts["b"]).toBeCloseTo(0.75, 1);
  });

  it("shares what is not ready among the rest, by weight", () => {
    const counts = shares([backend("a", 1), backend("gone", 96, false), backend("b", 3)]);
    expect(counts["a"]).toBeCloseTo(0.25, 1);
    expect(counts["gone"]).toBeUndefined();
  });

  it("never draws weight 0 beside others", () => {
    expect(shares([backend("a", 0), backend("b", 1)])["a"]).toBeUndefined();
    expect(shares([backend("a", 0), backend("b", 1, false)])).toEqual({ none: expect.closeTo(1, 5) });
  });

  it("takes a single one whatever its weight", () => {
    expect(randomAvailable([backend("a", 0)], isReady, () => 0)?.name).toBe("a");
  });

  it("adds up the weights of one that is named twice", () => {
    const twice = backend("a", 1);
    expect(shares([twice, twice, backend("b", 2)])["a"]).toBeCloseTo(0.5, 1);
  });
});
