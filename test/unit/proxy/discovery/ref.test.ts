import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { meta } from "../../../../src/proto/index.ts";
import { formatRef } from "../../../../src/proxy/discovery/index.ts";
import { decodeLocalRef, decodeRef, optionalRef } from "../../../../src/proxy/discovery/ref.ts";
import { defaultMeta, resourceMeta } from "../../../support/mesh-messages.ts";

const message = (init: Parameters<typeof create<typeof meta.MetadataSchema>>[1]) => create(meta.MetadataSchema, init);

describe("resource reference", () => {
  it.each([
    [defaultMeta("fallback"), "default.fallback"],
    [resourceMeta("Service", "web", 80), "Service.shop.web:80"],
    [resourceMeta("HTTPRoute", "r"), "HTTPRoute.shop.r"],
  ])("is printed as the field does", (init, text) => {
    expect(formatRef(decodeRef(message(init), "x"))).toBe(text);
  });

  it("must be complete where namespaces meet", () => {
    const local = message({
      kind: { case: "resource", value: { group: "policy.linkerd.io", kind: "server", name: "a" } },
    });
    expect(() => decodeRef(local, "x")).toThrow(/complete/);
    expect(decodeLocalRef(local, "x").name).toBe("a");
    expect(() => decodeLocalRef(message({}), "x")).toThrow(/empty/);
    expect(() => decodeLocalRef(undefined, "x")).toThrow(/missing/);
    expect(optionalRef(undefined)).toBeUndefined();
  });
});
