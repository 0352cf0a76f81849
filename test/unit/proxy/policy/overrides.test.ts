import { describe, expect, it } from "vitest";
import {
  NO_TIMEOUTS,
  type OutboundRule,
  parseDuration,
  type RetryPolicy,
  requestLimits,
} from "../../../../src/proxy/policy/index.ts";
import { headers } from "../../../support/http1.ts";

const rule = (more: Partial<OutboundRule> = {}): OutboundRule => ({
  matches: [],
  filters: [],
  distribution: { kind: "empty" },
  timeouts: NO_TIMEOUTS,
  retry: undefined,
  budgetedRetry: false,
  classify: { kind: "http" },
  allowRequestHeaders: true,
  ...more,
});
const retry: RetryPolicy = {
  maxRetries: 3,
  maxRequestBytes: 100,
  statusRanges: [{ start: 500, end: 500 }],
  grpcCodes: [1],
  timeoutMs: 7,
  backoff: undefined,
};

describe("per-request overrides", () => {
  it("are neither honoured nor removed where they are not allowed", () => {
    const list = headers(["l5d-timeout", "1s"]);
    const given = rule({ allowRequestHeaders: false });
    expect(requestLimits(given, list)).toBe(given);
    expect(list.length).toBe(1);
  });

  it("cost nothing where there are none", () => {
    const given = rule();
    expect(requestLimits(given, headers(["host", "a"], ["l5d-client-id", "x"]))).toBe(given);
  });

  it("set timeouts and are removed", () => {
    const list = headers(
      ["L5d-Timeout", "1s"],
      ["l5d-request-timeout", "2s"],
      ["l5d-response-timeout", "300ms"],
      ["a", "b"],
    );
    const limits = requestLimits(rule({ timeouts: { ...NO_TIMEOUTS, idleMs: 5 } }), list);
    expect(limits.timeouts).toEqual({ requestMs: 2_000, responseMs: 300, idleMs: 5, headersMs: undefined });
    expect(limits.retry).toBeUndefined();
    expect(list.names.map(({ lower }) => lower)).toEqual(["a"]);
  });

  it("make a retry policy of their own", () => {
    const list = headers(["l5d-retry-http", "5xx,gateway-error,404,410-412,x,99,600-601,412-410"]);
    expect(requestLimits(rule(), list).retry).toEqual({
      maxRetries: 1,
      maxRequestBytes: 65_536,
      statusRanges: [
        { start: 500, end: 599 },
        { start: 502, end: 504 },
        { start: 404, end: 404 },
        { start: 410, end: 412 },
      ],
      grpcCodes: [],
      timeoutMs: undefined,
      backoff: { minMs: 25, maxMs: 250, jitter: 1 },
    });
  });

  it("replace only what they name", () => {
    const list = headers(["l5d-retry-limit", "9"], ["l5d-retry-grpc", "unavailable,toString,cancelled"]);
    expect(requestLimits(rule({ retry }), list).retry).toEqual({ ...retry, maxRetries: 9, grpcCodes: [14, 1] });
    const timeout = headers(["l5d-retry-timeout", "1s"]);
    expect(requestLimits(rule({ retry }), timeout).retry).toEqual({ ...retry, timeoutMs: 1_000 });
  });

  it("that make no sense are removed without effect", () => {
    const list = headers(["l5d-retry-limit", "many"], ["l5d-timeout", "1.5s"], ["l5d-retry-http", ""]);
    const limits = requestLimits(rule({ retry }), list);
    expect(limits.retry).toBe(retry);
    expect(limits.timeouts).toEqual(NO_TIMEOUTS);
    expect(list.length).toBe(0);
  });

  it.each([
    ["10ms", 10],
    ["3s", 3_000],
    ["2m", 120_000],
    ["1h", 3_600_000],
    ["1d", 86_400_000],
    ["0", 0],
    ["5", undefined],
    ["1.5s", undefined],
    ["-1s", undefined],
    ["", undefined],
    ["1S", undefined],
  ])("duration %j is %s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });
});
