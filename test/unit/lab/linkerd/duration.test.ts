import { expect, test } from "vitest";
import { durationMessage, parseDurationMs } from "../../../../src/lab/linkerd/duration.ts";

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

test("the message splits seconds and nanoseconds", () => {
  expect(durationMessage(1250)).toEqual({ seconds: 1n, nanos: 250_000_000 });
});
