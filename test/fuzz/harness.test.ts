import { describe, expect, it } from "vitest";
import { type FuzzTarget, fuzz } from "./harness.ts";
import { scout } from "./scout.ts";

const planted = (fault: (input: Buffer) => unknown): FuzzTarget => ({
  name: "planted",
  seeds: [Buffer.from("seed")],
  dictionary: [Buffer.from("key")],
  covers: "nothing",
  run: (pieces) => fault(Buffer.concat(pieces)),
});
const has = (input: Buffer) => input.includes("key");

describe("a planted fault is found without a guide", () => {
  it("an exception", () => {
    const target = planted((input) => {
      if (has(input)) throw new TypeError("planted");
    });
    expect(() => fuzz(target, { runs: 1_000 })).toThrow(/planted threw \(seed 1\) for [0-9a-f ]+: TypeError/);
  });

  it("an input that takes longer than 50 ms", () => {
    const target = planted((input) => {
      const until = performance.now() + (has(input) ? 60 : 0);
      while (performance.now() < until);
    });
    expect(() => fuzz(target, { runs: 1_000 })).toThrow(/planted took \d+ ms/);
  });

  it("memory that grows with the inputs", () => {
    const kept: Buffer[] = [];
    const target = planted((input) => {
      if (has(input)) kept.push(Buffer.alloc(100_000));
    });
    expect(() => fuzz(target, { runs: 1_000 })).toThrow(/memory grew by \d+ bytes/);
    expect(kept).not.toHaveLength(0);
  });

  it("an input that keeps more than 4 MiB", () => {
    const target = planted(() => Buffer.alloc(5 * 1024 * 1024));
    expect(() => fuzz(target, { runs: 10 })).toThrow(/an input keeps \d+ bytes/);
  });
});

it("a scout finds what no seed reaches", async () => {
  const { found, inputs } = await scout({ name: "detect-http", runs: 2_000, seed: 1 });
  expect(inputs).toBeGreaterThanOrEqual(2_000);
  expect(found).not.toHaveLength(0);
});
