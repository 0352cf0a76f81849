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

it("retries after one second, doubling to a minute, however late it is", () => {
  const delays = [1, 2, 3, 7, 50].map((failures) => renewalDelayMs({ ...LIFE, failures }, 95_000_000, () => 1));
  expect(delays).toEqual([1000, 2000, 4000, 60_000, 60_000]);
  expect(renewalDelayMs({ ...LIFE, failures: 50 }, 0, () => 0)).toBe(30_000);
});
