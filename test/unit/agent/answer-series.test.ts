import { expect, test } from "vitest";
import { type Answered, AnswerSeries, labelOf } from "../../../src/agent/answer-series.ts";

test("makes a series per answer, once", () => {
  const made: Answered[] = [];
  const series = new AnswerSeries((answered) => made.push(answered));
  const ask = (status: number | undefined, failure = false, grpcStatus?: number, error = "") =>
    series.of(status, failure, grpcStatus, error);
  const first = ask(200);
  expect(ask(200)).toBe(first);
  const others = [ask(404), ask(200, true), ask(200, false, 0), ask(200, false, undefined, "timeout"), ask(undefined)];
  expect(new Set([first, ...others]).size).toBe(6);
  expect([ask(404), ask(200, true), ask(200, false, 0), ask(200, false, undefined, "timeout"), ask(undefined)]).toEqual(
    others,
  );
  expect(ask(200)).toBe(first);
  expect(made.length).toBe(6);
});

test("writes no status as an empty label", () => {
  expect([labelOf(undefined), labelOf(0), labelOf(503)]).toEqual(["", "0", "503"]);
});
