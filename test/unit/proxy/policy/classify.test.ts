import { describe, expect, it } from "vitest";
import { type ClassifyRule, isFailure, isGrpcFailure, type ResponseClass } from "../../../../src/proxy/policy/index.ts";

describe("classification", () => {
  it("knows the failures of gRPC", () => {
    expect(Array.from({ length: 17 }, (_, code) => code).filter(isGrpcFailure)).toEqual([2, 4, 7, 13, 14, 15]);
  });

  it.each<[string, ClassifyRule["kind"], boolean, number, number | undefined, boolean]>([
    ["HTTP 499", "http", false, 499, undefined, false],
    ["HTTP 500", "http", false, 500, undefined, true],
    ["HTTP 599", "http", false, 599, undefined, true],
    ["HTTP 429", "http", false, 429, undefined, false],
    ["gRPC over an HTTP route", "http", true, 200, 14, true],
    ["gRPC without status over an HTTP route", "http", true, 503, undefined, false],
    ["gRPC RESOURCE_EXHAUSTED", "grpc", true, 200, 8, false],
    ["gRPC PERMISSION_DENIED", "grpc", true, 200, 7, true],
    ["gRPC without status", "grpc", true, 200, undefined, false],
  ])("%s", (_, kind, grpc, status, code, failure) => {
    const rule: ClassifyRule = kind === "profile" ? { kind, classes: [] } : { kind };
    expect(isFailure(rule, grpc, status, code)).toBe(failure);
  });

  describe("of a ServiceProfile", () => {
    const status = (min: number, max: number) => ({ kind: "status", min, max }) as const;
    const classes: ResponseClass[] = [
      { condition: status(503, 503), failure: false },
      { condition: { kind: "all", of: [status(500, 599), { kind: "not", of: status(501, 501) }] }, failure: true },
      { condition: { kind: "any", of: [status(404, 404), status(429, 429)] }, failure: true },
    ];

    it.each([
      [200, undefined, false],
      [503, undefined, false],
      [503, 14, false],
      [500, undefined, true],
      [404, undefined, true],
      [429, undefined, true],
      [501, undefined, true],
      [501, 0, false],
      [200, 13, true],
    ])("%d with grpc-status %s: %s", (code, grpcStatus, failure) => {
      expect(isFailure({ kind: "profile", classes }, false, code, grpcStatus)).toBe(failure);
    });
  });
});
