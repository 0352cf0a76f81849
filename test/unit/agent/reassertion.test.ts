import { expect, it } from "vitest";
import { Reassertion } from "../../../src/agent/reassertion.ts";

it("asks at once when a family stops working, then less and less often while that does not help", () => {
  const reassertion = new Reassertion();
  reassertion.result("v4", "works", 0);
  const asked: number[] = [];
  for (let now = 1_000; now < 400_000; now += 200)
    if (reassertion.result("v4", now === 1_000 ? "lost" : "fails", now)) asked.push(now);
  expect(asked.slice(0, 7)).toEqual([1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000]);
  expect(asked.slice(6).every((at, i, all) => i === 0 || at - (all[i - 1] as number) === 60_000)).toBe(true);
});

it("begins anew after it has worked", () => {
  const reassertion = new Reassertion();
  for (let now = 0; now < 100_000; now += 2_000) reassertion.result("v4", "fails", now);
  reassertion.result("v4", "works", 100_000);
  expect(reassertion.result("v4", "lost", 100_200)).toBe(true);
  expect(reassertion.result("v4", "fails", 102_200)).toBe(true);
});

it("asks for IPv6 only where it has worked, and then as for IPv4", () => {
  const reassertion = new Reassertion();
  expect(reassertion.result("v6", "fails", 0)).toBe(false);
  reassertion.result("v6", "works", 1_000);
  expect(reassertion.result("v6", "lost", 2_000)).toBe(true);
});

it("asks once where both families stop together, and again when that did not help", () => {
  const reassertion = new Reassertion();
  reassertion.result("v4", "works", 0);
  reassertion.result("v6", "works", 0);
  expect(reassertion.result("v4", "lost", 10_000)).toBe(true);
  expect(reassertion.result("v6", "lost", 10_300)).toBe(false);
  expect(reassertion.result("v4", "fails", 11_900)).toBe(false);
  expect(reassertion.result("v6", "fails", 12_000)).toBe(true);
});

it("asks at once for a family that stops long after the other one did", () => {
  const reassertion = new Reassertion();
  reassertion.result("v6", "works", 0);
  for (let now = 0; now < 100_000; now += 2_000) reassertion.result("v4", now === 0 ? "lost" : "fails", now);
  expect(reassertion.result("v6", "lost", 100_100)).toBe(true);
});
