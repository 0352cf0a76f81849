import { expect, test } from "vitest";
import {
  BadAnnotation,
  lenient,
  readAccrual,
  readLoad,
  readRetry,
  readTimeouts,
} from "../../../../src/lab/linkerd/annotations.ts";

const seconds = (value: bigint) => ({ seconds: value, nanos: 0 });
const CONSECUTIVE = "balancer.linkerd.io/failure-accrual-consecutive-";

test("timeouts: each alone, zero as none", () => {
  expect(readTimeouts({})).toBeUndefined();
  expect(readTimeouts({ "timeout.linkerd.io/request": "0s" })).toBeUndefined();
  expect(readTimeouts({ "timeout.linkerd.io/request": "10s", "timeout.linkerd.io/idle": "1m", other: "x" })).toEqual({
    request: seconds(10n),
    idle: seconds(60n),
  });
  expect(() => readTimeouts({ "timeout.linkerd.io/response": "soon" })).toThrow(BadAnnotation);
});

test("retries: one by default, and nothing by status unless told", () => {
  expect(readRetry({})).toBeUndefined();
  expect(readRetry({ "retry.linkerd.io/limit": "0" })).toBeUndefined();
  expect(readRetry({ "retry.linkerd.io/http": "5xx,gateway-error,429,400-410" })).toEqual({
    maxRetries: 1,
    timeoutMs: undefined,
    http: {
      statusRanges: [
        { start: 500, end: 599 },
        { start: 502, end: 504 },
        { start: 429, end: 429 },
        { start: 400, end: 410 },
      ],
    },
    grpc: {},
  });
  const all = "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable";
  expect(
    readRetry({ "retry.linkerd.io/limit": "3", "retry.linkerd.io/timeout": "200ms", "retry.linkerd.io/grpc": all }),
  ).toMatchObject({
    maxRetries: 3,
    timeoutMs: 200,
    grpc: { cancelled: true, deadineExceeded: true, internal: true, resourceExhausted: true, unavailable: true },
  });
});

test.each([
  ["http", "600"],
  ["http", "500-400"],
  ["http", "5xx, 429"],
  ["grpc", "ok"],
  ["limit", "-1"],
  ["limit", "65536"],
  ["limit", "1.5"],
  ["timeout", "x"],
])("retry.linkerd.io/%s: %s is bad", (name, value) => {
  expect(() => readRetry({ [`retry.linkerd.io/${name}`]: value })).toThrow(BadAnnotation);
  expect(lenient(readRetry, { [`retry.linkerd.io/${name}`]: value })).toBeUndefined();
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

test("load: peak EWMA, or the kind with penalties", () => {
  expect(readLoad({})).toEqual({
    case: "peakEwma",
    value: { defaultRtt: { seconds: 0n, nanos: 30_000_000 }, decay: seconds(10n) },
  });
  const prefix = "balancer.alpha.linkerd.io/";
  expect(readLoad({ [`${prefix}penalize-failures`]: "T" })).toMatchObject({
    case: "penaltyPeakEwma",
    value: { penalty: seconds(5n), maxRetryAfter: seconds(300n) },
  });
  expect(() => readLoad({ [`${prefix}penalize-failures`]: "yes" })).toThrow(BadAnnotation);
});
