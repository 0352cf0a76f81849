import { expect, test } from "vitest";
import { durationMessage, parseDurationMs, parsePolicyDurationMs } from "../../../../src/lab/linkerd/duration.ts";

test.each([
  ["0", 0],
  ["0s", 0],
  ["300ms", 300],
  ["10s", 10_000],
  ["1m30s", 90_000],
  ["1.5h", 5_400_000],
  ["2d", 172_800_000],
  ["10", undefined],
  ["s", undefined],
  ["-1s", undefined],
  ["1s ", undefined],
])("%s is %s ms", (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each([
  ["0", 0],
  ["0ms", 0],
  [" 300ms ", 300],
  ["2d", 172_800_000],
  ["1m30s", undefined],
  ["1.5s", undefined],
  ["10", undefined],
  ["1S", undefined],
  ["", undefined],
])("to the policy controller %j is %s ms", (text, ms) => {
  expect(parsePolicyDurationMs(text)).toBe(ms);
});

test("the message splits seconds and nanoseconds", () => {
  expect(durationMessage(1250)).toEqual({ seconds: 1n, nanos: 250_000_000 });
});
