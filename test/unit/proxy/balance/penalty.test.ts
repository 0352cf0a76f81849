import { describe, expect, it } from "vitest";
import { parseHttpDate, parseRetryAfter, penaltyOf } from "../../../../src/proxy/balance/index.ts";

const config = { penaltyMs: 5_000, maxRetryAfterMs: 300_000 };

describe("penalty", () => {
  it.each<[string, number, number | undefined, number | undefined, number | undefined]>([
    ["200", 200, undefined, undefined, undefined],
    ["404", 404, undefined, undefined, undefined],
    ["429", 429, undefined, undefined, 5_000],
    ["429 with a hint", 429, undefined, 60_000, 60_000],
    ["503 with a small hint", 503, undefined, 1_000, 5_000],
    ["503 with a huge hint", 503, undefined, 1e9, 300_000],
    ["500 ignores the hint", 500, undefined, 60_000, 5_000],
    ["gRPC RESOURCE_EXHAUSTED", 200, 8, 60_000, 60_000],
    ["gRPC UNAVAILABLE", 200, 14, undefined, 5_000],
    ["gRPC INTERNAL ignores the hint", 200, 13, 60_000, 5_000],
    ["gRPC UNKNOWN", 200, 2, undefined, 5_000],
    ["gRPC NOT_FOUND", 200, 5, undefined, undefined],
    ["gRPC OK", 200, 0, undefined, undefined],
  ])("%s", (_, status, grpcStatus, hint, penalty) => {
    expect(penaltyOf(config, status, grpcStatus, hint)).toBe(penalty);
  });
});

describe("Retry-After", () => {
  const now = Date.UTC(2026, 0, 31, 12, 0, 0);

  it("counts seconds", () => {
    expect(parseRetryAfter("120", now)).toBe(120_000);
    expect(parseRetryAfter("0", now)).toBe(0);
  });

  it("or names a date", () => {
    expect(parseRetryAfter("Sat, 31 Jan 2026 12:00:10 GMT", now)).toBe(10_000);
    expect(parseRetryAfter("Sat, 31 Jan 2026 11:00:00 GMT", now)).toBe(0);
  });

  it.each(["", "-1", "1.5", "soon", "Sat, 31 Foo 2026 12:00:10 GMT", "Sat, 31 Jan 2026 25:00:10 GMT"])(
    "is not %j",
    (text) => {
      expect(parseRetryAfter(text, now)).toBeUndefined();
    },
  );

  it("reads all three forms of RFC 9110", () => {
    const expected = Date.UTC(1994, 10, 6, 8, 49, 37);
    expect(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT")).toBe(expected);
    expect(parseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT")).toBe(expected);
    expect(parseHttpDate("Sun Nov  6 08:49:37 1994")).toBe(expected);
  });

  it("agrees with the platform about every month", () => {
    for (let day = 0; day < 3_000; day += 13) {
      const date = new Date(Date.UTC(2019, 0, 1) + day * 86_400_000);
      expect(parseHttpDate(date.toUTCString())).toBe(date.getTime());
    }
  });
});
