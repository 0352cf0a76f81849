import { describe, expect, it } from "vitest";
import { authorityHost, formatAuthority, isDnsName, parseAuthority } from "../../../../src/proxy/core/authority.ts";

describe("authority", () => {
  it.each([
    ["Example.COM", { host: "example.com", port: undefined }],
    ["example.com:80", { host: "example.com", port: 80 }],
    ["example.com:", { host: "example.com", port: undefined }],
    ["example.com.:8080", { host: "example.com.", port: 8080 }],
    ["[FD00::1]:80", { host: "fd00::1", port: 80 }],
    ["10.0.0.1:0", { host: "10.0.0.1", port: 0 }],
  ])("splits %s", (text, expected) => {
    expect(parseAuthority(text)).toEqual(expected);
  });

  it.each(["", ":80", "a:65536", "a:b", "user@a", "fd00::1", "[fd00::1", "[fd00::g]", "a/b", "a b"])(
    "refuses %j",
    (text) => {
      expect(parseAuthority(text)).toBeUndefined();
    },
  );

  it("is written back", () => {
    expect(formatAuthority({ host: "fd00::1", port: 80 })).toBe("[fd00::1]:80");
    expect(formatAuthority({ host: "a", port: undefined })).toBe("a");
  });

  it("yields the host for matching", () => {
    expect(["a:80", "a", "[fd00::1]:80", "[fd00::1]"].map(authorityHost)).toEqual(["a", "a", "fd00::1", "fd00::1"]);
  });
});

describe("DNS names", () => {
  it.each(["a", "web.shop.serviceaccount.identity.linkerd.cluster.local", "_x.y", "1a.b-c"])("takes %s", (name) => {
    expect(isDnsName(name)).toBe(true);
  });

  it.each(["", "a.", ".a", "a..b", "*.a", "-a.b", "a-.b", "a.1", "a b", `${"a".repeat(64)}.b`, "x.".repeat(127)])(
    "refuses %j",
    (name) => {
      expect(isDnsName(name)).toBe(false);
    },
  );
});
