import { X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import {
  alternativeNames,
  chainsTo,
  clientIdentity,
  parseDer,
  pemToDer,
  provesDnsName,
  splitPem,
} from "../../../../src/bootstrap/control/index.ts";
import { type TestPair, testCertificate, testMeshCa } from "../../../support/test-ca.ts";

type Sans = NonNullable<Parameters<typeof testCertificate>[0]>["sans"];
const make = async (sans: NonNullable<Sans>) => new X509Certificate((await testCertificate({ sans })).certificatePem);

describe("names in a certificate", () => {
  it("keeps their order: the first one names a client", async () => {
    const dnsFirst = await make([
      { type: "dns", value: "App.ns.example" },
      { type: "url", value: "spiffe://td/ns/a/sa/b" },
    ]);
    expect(alternativeNames(dnsFirst)).toEqual([
      { kind: "dns", value: "App.ns.example" },
      { kind: "uri", value: "spiffe://td/ns/a/sa/b" },
    ]);
    expect(clientIdentity(dnsFirst)).toBe("app.ns.example");
    const uriFirst = await make([
      { type: "url", value: "spiffe://td/x" },
      { type: "dns", value: "a.b" },
    ]);
    expect(clientIdentity(uriFirst)).toBe("spiffe://td/x");
  });

  it("compares whole, without regard to case, and lets no wildcard and no dot match", async () => {
    const certificate = await make([
      { type: "dns", value: "*.ns.example" },
      { type: "dns", value: "Other.Example" },
      { type: "dns", value: "dot.example." },
    ]);
    expect(provesDnsName(certificate, "a.ns.example")).toBe(false);
    expect(provesDnsName(certificate, "other.example")).toBe(true);
    expect(provesDnsName(certificate, "dot.example")).toBe(false);
    expect(clientIdentity(certificate)).toBeUndefined();
  });

  it("is not fooled by a value that looks like two", async () => {
    const certificate = await make([{ type: "url", value: "spiffe://td/x, DNS:victim.example" }]);
    expect(provesDnsName(certificate, "victim.example")).toBe(false);
    expect(alternativeNames(certificate)).toHaveLength(1);
  });

  it("finds none in the subject", async () => {
    const certificate = new X509Certificate((await testCertificate({ name: "victim.example" })).certificatePem);
    expect(clientIdentity(certificate)).toBeUndefined();
    expect(provesDnsName(certificate, "victim.example")).toBe(false);
  });
});

describe("a chain", () => {
  let ca: { root: TestPair; issuer: TestPair };
  const x = (pair: TestPair) => new X509Certificate(pair.certificatePem);
  beforeAll(async () => {
    ca = await testMeshCa();
  });

  it("ends at a root, through every issuer", async () => {
    const leaf = await testCertificate({ issuer: ca.issuer });
    expect(chainsTo([x(leaf), x(ca.issuer)], [x(ca.root)], Date.now())).toBe(true);
    expect(chainsTo([x(leaf), x(ca.issuer)], [x((await testMeshCa()).root)], Date.now())).toBe(false);
    expect(chainsTo([x(leaf)], [x(ca.root)], Date.now())).toBe(false);
    expect(chainsTo([], [x(ca.root)], Date.now())).toBe(false);
  });

  it("does not go through a leaf, nor outside of anybody's validity", async () => {
    const leaf = await testCertificate({ issuer: ca.issuer });
    const child = await testCertificate({ issuer: leaf });
    expect(chainsTo([x(child), x(leaf), x(ca.issuer)], [x(ca.root)], Date.now())).toBe(false);
    expect(chainsTo([x(leaf), x(ca.issuer)], [x(ca.root)], Date.now() + 400 * 86_400_000)).toBe(false);
  });
});

it("splits PEM, and reads no certificate from garbage", async () => {
  const { certificatePem, keyPem } = await testCertificate();
  expect(splitPem(`${keyPem}# a comment\n${certificatePem}${certificatePem}`)).toHaveLength(2);
  expect(splitPem("nothing")).toEqual([]);
  expect(parseDer(pemToDer(certificatePem))?.raw).toEqual(pemToDer(certificatePem));
  expect(parseDer(Buffer.from("garbage"))).toBeUndefined();
});
