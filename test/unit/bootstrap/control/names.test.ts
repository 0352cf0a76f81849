import { expect, it } from "vitest";
import {
  backoffMs,
  compatible,
  destinationName,
  enrollerName,
  grpcTarget,
  identityName,
  identityUri,
  isIdentityPart,
  parseIdentityName,
} from "../../../../src/bootstrap/control/index.ts";

const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };

it("spells identities as Linkerd does", () => {
  expect(identityName("web", "shop", MESH)).toBe("web.shop.serviceaccount.identity.linkerd.cluster.local");
  expect(identityUri("web", "shop", MESH)).toBe("spiffe://cluster.local/ns/shop/sa/web");
  expect(enrollerName(MESH)).toBe("mesh-agent-enroller.linkerd.serviceaccount.identity.linkerd.cluster.local");
  expect(destinationName(MESH)).toBe("linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local");
});

it("takes them apart, also where an account has dots, and only those of this mesh", () => {
  const account = { serviceAccount: "a.b", namespace: "shop" };
  expect(parseIdentityName(identityName("a.b", "shop", MESH), MESH)).toEqual(account);
  expect(parseIdentityName("web.shop.serviceaccount.identity.other.cluster.local", MESH)).toBeUndefined();
  expect(parseIdentityName(".serviceaccount.identity.linkerd.cluster.local", MESH)).toBeUndefined();
  expect(parseIdentityName("spiffe://cluster.local/ns/shop/sa/web", MESH)).toBeUndefined();
});

it("accepts nothing as part of a name that could end it early", () => {
  expect(isIdentityPart("cluster.local")).toBe(true);
  for (const bad of ["", ".a", "a.", "a..b", "A", "a/b", "a b"]) expect(isIdentityPart(bad)).toBe(false);
});

it.each([
  ["0.1.0", "0.2.9", true],
  ["0.3.0", "0.1.0", false],
  ["1.0.0", "0.1.0", false],
  ["0.1.0", "", false],
  ["0.1.0", "0.1", true],
  ["0.1.0", "0.1x", false],
])("agent %s with enroller %s: %s", (ours, theirs, fit) => {
  expect(compatible(ours, theirs)).toBe(fit);
});

it("backs off by chance between its floor and a ceiling that doubles", () => {
  const options = { minMs: 1000, maxMs: 60_000 };
  expect(backoffMs(1, options, () => 0)).toBe(1000);
  expect(backoffMs(1, options, () => 1)).toBe(2000);
  expect(backoffMs(3, options, () => 1)).toBe(8000);
  expect(backoffMs(3, options, () => 0)).toBe(1000);
  expect(backoffMs(1000, options, () => 1)).toBe(60_000);
});

it("spells addresses for grpc-js", () => {
  expect(grpcTarget("10.0.0.1:80")).toBe("ipv4:10.0.0.1:80");
  expect(grpcTarget("[fd00::1]:80")).toBe("ipv6:[fd00::1]:80");
  expect(grpcTarget("enroll.example.com:4145")).toBe("dns:enroll.example.com:4145");
  for (const bad of ["", "host", "unix:/tmp/x", "a b:1", "xds:///x:1", "fd00::1:80"])
    expect(grpcTarget(bad)).toBeUndefined();
});
