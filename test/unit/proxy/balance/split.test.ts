import { describe, expect, it } from "vitest";
import { randomAvailable } from "../../../../src/proxy/balance/index.ts";
import { seededRng } from "../../../support/rng.ts";

const REQUESTS = 10_000;
// Two-sided 99.9 % of the normal distribution; with 100 expected successes and more it stands for the binomial.
const Z = 3.29;

describe("10,000 draws of a split stay within the binomial bound of 99.9 %", () => {
  it.each([
    ["1/99", [1, 99]],
    ["50/50", [50, 50]],
    ["3-way", [20, 30, 50]],
  ])("%s", (_name, weights) => {
    const rng = seededRng(7);
    const backends = weights.map((weight) => ({ weight }));
    const counts = weights.map(() => 0);
    for (let i = 0; i < REQUESTS; i++) {
      const at = backends.indexOf(randomAvailable(backends, () => true, rng) as { weight: number });
      counts[at] = (counts[at] as number) + 1;
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    weights.forEach((weight, i) => {
      const share = weight / total;
      const bound = Z * Math.sqrt(REQUESTS * share * (1 - share));
      expect(Math.abs((counts[i] as number) - REQUESTS * share)).toBeLessThanOrEqual(bound);
    });
  });
});
