import { expect, test } from "vitest";
import {
  BadAnnotation,
  lenient,
  readAccrual,
  readGrpcRetry,
  readHttpRetry,
  readLoad,
  readTimeouts,
} from "../../../../src/lab/linkerd/annotations.ts";

const seconds = (value: bigint) => ({ seconds: value, nanos: 0 });
const CONSECUTIVE = "balancer.linkerd.io/failure-accrual-consecutive-";

test("timeouts: each alone, zero as it is", () => {
  expect(readTimeouts({})).toBeUndefined();
  expect(readTimeouts({ "timeout.linkerd.io/request": "0s" })).toEqual({ request: seconds(0n) });
  expect(readTimeouts({ "timeout.linkerd.io/request": "10s", "timeout.linkerd.io/idle": "1m", other: "x" })).toEqual({
    request: seconds(10n),
    idle: seconds(60n),
  });
  expect(() => readTimeouts({ "timeout.linkerd.io/response": "soon" })).toThrow(BadAnnotation);
});

test("retries: one by default, and nothing by status unless told", () => {
  expect(readHttpRetry({})).toBeUndefined();
  expect(readHttpRetry({ "retry.linkerd.io/limit": "0" })).toBeUndefined();
  expect(readHttpRetry({ "retry.linkerd.io/limit": "2" })).toEqual({
    maxRetries: 2,
    timeoutMs: undefined,
    conditions: { statusRanges: [] },
  });
  expect(readHttpRetry({ "retry.linkerd.io/http": "5XX,gateway-error,429,400-410" })).toEqual({
    maxRetries: 1,
    timeoutMs: undefined,
    conditions: {
      statusRanges: [
        { start: 500, end: 599 },
        { start: 502, end: 504 },
        { start: 429, end: 429 },
        { start: 400, end: 410 },
      ],
    },
  });
  const all = "cancelled,deadline-exceeded,internal,resource-exhausted,Unavailable";
  expect(
    readGrpcRetry({ "retry.linkerd.io/limit": "3", "retry.linkerd.io/timeout": "200ms", "retry.linkerd.io/grpc": all }),
  ).toEqual({
    maxRetries: 3,
    timeoutMs: 200,
    conditions: {
      cancelled: true,
      deadineExceeded: true,
      internal: true,
      resourceExhausted: true,
      unavailable: true,
    },
  });
});

test("conditions of one kind are no retries of the other, and no harm to it", () => {
  expect(readHttpRetry({ "retry.linkerd.io/grpc": "nonsense" })).toBeUndefined();
  expect(readGrpcRetry({ "retry.linkerd.io/http": "5xx" })).toBeUndefined();
  const limit = { "retry.linkerd.io/limit": "2" };
  expect(readHttpRetry({ ...limit, "retry.linkerd.io/grpc": "nonsense" })?.maxRetries).toBe(2);
});

test.each([
  ["http", "600"],
  ["http", "500-400"],
  ["http", "5xx, 429"],
  ["http", ""],
  ["grpc", "ok"],
  ["grpc", ""],
  ["limit", "-1"],
  ["limit", "65536"],
  ["limit", "1.5"],
  ["timeout", "x"],
  ["timeout", "1m30s"],
])("retry.linkerd.io/%s: %s is bad", (name, value) => {
  const read = name === "grpc" ? readGrpcRetry : readHttpRetry;
  expect(() => read({ [`retry.linkerd.io/${name}`]: value })).toThrow(BadAnnotation);
  expect(lenient(read, { [`retry.linkerd.io/${name}`]: value })).toBeUndefined();
});

test("failure accrual has the chart's defaults", () => {
  expect(readAccrual({})).toBeUndefined();
  const backoff = { minBackoff: seconds(1n), maxBackoff: seconds(60n), jitterRatio: 0.5 };
  expect(readAccrual({ "balancer.linkerd.io/failure-accrual": "consecutive" })).toEqual({
    kind: { case: "consecutiveFailures", value: { maxFailures: 7, backoff } },
  });
  expect(readAccrual({ "balancer.linkerd.io/failure-accrual": "unified" })).toEqual({
    kind: {
      case: "unified",
      value: {
        successRateThreshold: 0.8,
        decay: seconds(10n),
        minRequests: 5,
        maxConsecutiveFailures: 7,
        backoff: { ...backoff, respectRetryAfterHint: false },
      },
    },
  });
});

test.each<[string, string]>([
  ["balancer.linkerd.io/failure-accrual", "sometimes"],
  [`${CONSECUTIVE}min-penalty`, "2m"],
  [`${CONSECUTIVE}jitter-ratio`, "101"],
  [`${CONSECUTIVE}max-failures`, "many"],
])("accrual with %s: %s is bad", (name, value) => {
  const kind = { "balancer.linkerd.io/failure-accrual": "consecutive" };
  expect(() => readAccrual({ ...kind, [name]: value })).toThrow(BadAnnotation);
});

test("a success rate that is off is held to no bounds; a bad wish for Retry-After costs itself only", () => {
  const prefix = "balancer.alpha.linkerd.io/failure-accrual-";
  const unified = { "balancer.linkerd.io/failure-accrual": "unified", [`${prefix}success-rate-window`]: "5ms" };
  expect(() => readAccrual(unified)).toThrow(BadAnnotation);
  const off = { ...unified, [`${prefix}success-rate-threshold`]: " 0 ", [`${prefix}honor-retry-after`]: "perhaps" };
  expect(readAccrual(off)?.kind).toMatchObject({
    case: "unified",
    value: { successRateThreshold: 0, decay: { nanos: 5_000_000 }, backoff: { respectRetryAfterHint: false } },
  });
});

test("load: peak EWMA, or the kind with penalties", () => {
  expect(readLoad({})).toEqual({
    case: "peakEwma",
    value: { defaultRtt: { seconds: 0n, nanos: 30_000_000 }, decay: seconds(10n) },
  });
  const prefix = "balancer.alpha.linkerd.io/";
  expect(readLoad({ [`${prefix}penalize-failures`]: "T" })).toMatchObject({
    case: "penaltyPeakEwma",
    value: { penalty: seconds(5n), penaltyDecay: seconds(10n), maxRetryAfter: seconds(300n) },
  });
  expect(() => readLoad({ [`${prefix}penalize-failures`]: "yes" })).toThrow(BadAnnotation);
});
