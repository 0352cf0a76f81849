import { describe, expect, it } from "vitest";
import type { JsonMap } from "../../../../src/lab/api/json.ts";
import { jsonPatch } from "../../../../src/lab/api/json-patch.ts";
import { mergePatch } from "../../../../src/lab/api/merge-patch.ts";
import { strategicMerge } from "../../../../src/lab/api/strategic-merge.ts";

describe("mergePatch", () => {
  // RFC 7396 appendix A
  it.each([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [
      ["a", "b"],
      ["c", "d"],
      ["c", "d"],
    ],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])("%j with %j is %j", (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});

describe("jsonPatch", () => {
  const document: JsonMap = { a: { "b/c": 1, "m~n": 2 }, list: ["x", "y"] };
  it.each<[JsonMap, JsonMap]>([
    [
      { op: "add", path: "/list/1", value: "z" },
      { ...document, list: ["x", "z", "y"] },
    ],
    [
      { op: "add", path: "/list/-", value: "z" },
      { ...document, list: ["x", "y", "z"] },
    ],
    [
      { op: "remove", path: "/list/0" },
      { ...document, list: ["y"] },
    ],
    [
      { op: "replace", path: "/a/b~1c", value: 9 },
      { ...document, a: { "b/c": 9, "m~n": 2 } },
    ],
    [
      { op: "move", from: "/a/m~0n", path: "/n" },
      { a: { "b/c": 1 }, list: ["x", "y"], n: 2 },
    ],
    [
      { op: "copy", from: "/list", path: "/copy" },
      { ...document, copy: ["x", "y"] },
    ],
    [{ op: "test", path: "/a", value: { "m~n": 2, "b/c": 1 } }, document],
  ])("%j", (operation, result) => {
    expect(jsonPatch(document, [operation])).toEqual(result);
  });

  it.each<JsonMap>([
    { op: "test", path: "/a/b~1c", value: 2 },
    { op: "remove", path: "/nothing" },
    { op: "replace", path: "/nothing", value: 1 },
    { op: "add", path: "/list/9", value: 1 },
    { op: "add", path: "/a/__proto__", value: {} },
    { op: "frobnicate", path: "/a" },
  ])("refuses %j", (operation) => {
    expect(() => jsonPatch(document, [operation])).toThrow();
  });
});

describe("strategicMerge", () => {
  const service: JsonMap = {
    spec: {
      ports: [
        { name: "http", port: 80, targetPort: 8080 },
        { name: "grpc", port: 81 },
      ],
      selector: { app: "a" },
    },
  };

  it("merges ports by number", () => {
    const patch = {
      spec: {
        ports: [
          { port: 80, targetPort: 9 },
          { port: 82, name: "x" },
        ],
      },
    };
    expect(strategicMerge("Service", service, patch)).toEqual({
      spec: {
        ports: [
          { name: "http", port: 80, targetPort: 9 },
          { name: "grpc", port: 81 },
          { name: "x", port: 82 },
        ],
        selector: { app: "a" },
      },
    });
  });

  it("deletes items and fields, orders lists, replaces maps", () => {
    const patch: JsonMap = {
      spec: {
        "$setElementOrder/ports": [{ port: 82 }, { port: 80 }],
        ports: [
          { port: 81, $patch: "delete" },
          { port: 82, name: "x" },
        ],
        selector: { $patch: "replace", app: "b" },
      },
    };
    expect(strategicMerge("Service", service, patch)).toEqual({
      spec: {
        ports: [
          { name: "x", port: 82 },
          { name: "http", port: 80, targetPort: 8080 },
        ],
        selector: { app: "b" },
      },
    });
  });

  it("replaces lists that have no key and adds to finalizers", () => {
    const slice: JsonMap = { metadata: { finalizers: ["a"] }, endpoints: [{ addresses: ["1.1.1.1"] }] };
    const patch: JsonMap = { metadata: { finalizers: ["b"] }, endpoints: [] };
    expect(strategicMerge("EndpointSlice", slice, patch)).toEqual({
      metadata: { finalizers: ["a", "b"] },
      endpoints: [],
    });
    const drop: JsonMap = { metadata: { "$deleteFromPrimitiveList/finalizers": ["a"] } };
    expect(strategicMerge("EndpointSlice", slice, drop)["metadata"]).toEqual({ finalizers: [] });
  });
});
