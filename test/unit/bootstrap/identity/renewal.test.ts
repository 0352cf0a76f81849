import { expect, it } from "vitest";
import { renewalDelayMs } from "../../../../src/bootstrap/identity/index.ts";

const LIFE = { notBeforeMs: 0, notAfterMs: 100_000_000 };

it("waits for seventy percent of the life, at most two percent less", () => {
  expect(renewalDelayMs({ ...LIFE, failures: 0 }, 0, () => 0)).toBe(70_000_000);
  expect(renewalDelayMs({ ...LIFE, failures: 0 }, 0, () => 1)).toBeCloseTo(68_000_000);
  expect(renewalDelayMs({ ...LIFE, failures: 0 }, 60_000_000, () => 0)).toBe(10_000_000);
});

it("does not wait at all once that is past, also after the end", () => {
  expect(renewalDelayMs({ ...LIFE, failures: 0 }, 80_000_000, () => 0)).toBe(0);
  expect(renewalDelayMs({ ...LIFE, failures: 0 }, 200_000_000, () => 0)).toBe(0);
});

it("retries after one to two seconds, later within a minute, however late it is", () => {
  const at = (failures: number, chance: number) => renewalDelayMs({ ...LIFE, failures }, 95_000_000, () => chance);
  expect([1, 2, 3, 7, 50].map((failures) => at(failures, 1))).toEqual([2000, 4000, 8000, 60_000, 60_000]);
  expect([1, 2, 3, 7, 50].map((failures) => at(failures, 0))).toEqual([1000, 1000, 1000, 1000, 1000]);
});
