import { describe, expect, it } from "vitest";
import { PeakEwma, PenaltyPeakEwma } from "../../../../src/proxy/balance/index.ts";

describe("peak EWMA", () => {
  it("starts with the default, at least 1 ms", () => {
    expect(new PeakEwma(30, 10_000, 0).load(0)).toBe(30);
    expect(new PeakEwma(0, 10_000, 0).load(0)).toBe(1);
  });

  it("jumps to a peak at once", () => {
    const load = new PeakEwma(30, 10_000, 0);
    load.observe(500, 0);
    expect(load.load(0)).toBe(500);
  });

  it("comes down with the weight of the time passed", () => {
    const load = new PeakEwma(100, 10_000, 0);
    load.observe(10, 10_000);
    const weight = Math.exp(-1);
    expect(load.load(10_000)).toBeCloseTo(100 * weight + 10 * (1 - weight), 9);
  });

  it("decays while idle, and reading is what decays it", () => {
    const load = new PeakEwma(100, 10_000, 0);
    expect(load.load(5_000)).toBeCloseTo(100 * Math.exp(-0.5), 9);
    expect(load.load(10_000)).toBeCloseTo(100 * Math.exp(-1), 9);
    expect(load.load(200_000)).toBeLessThan(1e-6);
  });

  it("counts requests under way", () => {
    const load = new PeakEwma(30, 10_000, 0);
    load.pending = 3;
    expect(load.load(0)).toBe(120);
  });

  it("survives a clock that stands still", () => {
    const load = new PeakEwma(30, 0, 5);
    load.observe(1, 5);
    expect(load.load(5)).toBe(30);
    expect(load.load(6)).toBe(0);
  });
});

describe("penalty peak EWMA", () => {
  it("reads without storing, so that peaks compare with the decayed value", () => {
    const load = new PenaltyPeakEwma(100, 10_000, 0);
    expect(load.load(10_000)).toBeCloseTo(100 * Math.exp(-1), 9);
    expect(load.load(0)).toBe(100);
    load.observe(50, 10_000);
    expect(load.load(10_000)).toBe(50);
  });

  it("never counts a failure for less than what is thought already", () => {
    const load = new PenaltyPeakEwma(30, 10_000, 0);
    load.penalize(5_000, 0);
    expect(load.load(0)).toBe(5_000);
    load.penalize(100, 0);
    expect(load.load(0)).toBe(5_000);
  });
});
