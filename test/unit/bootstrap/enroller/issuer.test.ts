import { X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { alternativeNames, validity } from "../../../../src/bootstrap/control/index.ts";
import { Issuer, verifyRequest } from "../../../../src/bootstrap/enroller/issuer.ts";
import { certificationRequest, generateKey, publicKeyDer } from "../../../../src/bootstrap/identity/index.ts";
import { BAD_REQUESTS } from "../../../support/certification-requests.ts";
import { type TestPair, testCertificate, testMeshCa } from "../../../support/test-ca.ts";

const NAMES = { dns: "a.b.serviceaccount.identity.linkerd.cluster.local", uri: "spiffe://cluster.local/ns/b/sa/a" };
const HOUR = 3_600_000;

let ca: { root: TestPair; issuer: TestPair };
beforeAll(async () => {
  ca = await testMeshCa();
});

const load = (pair: TestPair, roots = [ca.root.certificatePem]) =>
  Issuer.load(pair.certificatePem, pair.keyPem, roots, Date.now());

describe("a request", () => {
  it("is good if its key is P-256 and signed it", async () => {
    const key = generateKey();
    const proven = await verifyRequest(certificationRequest(key));
    expect(proven.spki).toEqual(publicKeyDer(key));
    expect(proven.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  });

  it("is refused with a broken signature, or as garbage", async () => {
    const request = certificationRequest(generateKey());
    request[request.length - 1] = (request[request.length - 1] ?? 0) ^ 1;
    await expect(verifyRequest(request)).rejects.toMatchObject({ code: "request-refused" });
    await expect(verifyRequest(Buffer.from("garbage"))).rejects.toMatchObject({ code: "request-refused" });
    await expect(verifyRequest(Buffer.alloc(0))).rejects.toMatchObject({ code: "request-refused" });
  });

  it.each(BAD_REQUESTS)("is refused with %s", async (_what, request, why) => {
    await expect(Promise.resolve(request()).then(verifyRequest)).rejects.toMatchObject({
      code: "request-refused",
      message: expect.stringContaining(why),
    });
  });

  it("is refused with the public key of another, whose private half is not held", async () => {
    const own = certificationRequest(generateKey());
    const other = publicKeyDer(generateKey());
    const forged = Buffer.from(own);
    forged.set(other, own.indexOf(other.subarray(0, 26)));
    await expect(verifyRequest(forged)).rejects.toMatchObject({ code: "request-refused" });
  });
});

describe("a certificate", () => {
  const issue = async (issuer: Issuer, lifetimeMs = 24 * HOUR, wallMs = Date.now()) => {
    const key = await verifyRequest(certificationRequest(generateKey()));
    const issued = await issuer.issue(key, NAMES, lifetimeMs, wallMs);
    return { ...issued, leaf: new X509Certificate(issued.chain[0] as Buffer) };
  };

  it("has the DNS name first and the URI second, both usages, and no power to sign", async () => {
    const { leaf, chain } = await issue(await load(ca.issuer));
    expect(alternativeNames(leaf)).toEqual([
      { kind: "dns", value: NAMES.dns },
      { kind: "uri", value: NAMES.uri },
    ]);
    expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    expect(leaf.ca).toBe(false);
    expect(chain).toHaveLength(2);
    expect(leaf.verify(new X509Certificate(ca.issuer.certificatePem).publicKey)).toBe(true);
  });

  it("begins a minute ago and ends with the lifetime, or with the issuer", async () => {
    const wallMs = Math.floor(Date.now() / 1000) * 1000;
    const { leaf, notAfterMs } = await issue(await load(ca.issuer), 2 * HOUR, wallMs);
    expect(validity(leaf)).toEqual({ notBeforeMs: wallMs - 60_000, notAfterMs: wallMs + 2 * HOUR });
    expect(notAfterMs).toBe(wallMs + 2 * HOUR);
    const short = await testCertificate({ ca: true, issuer: ca.root, notAfterMs: wallMs + HOUR });
    expect((await issue(await load(short), 24 * HOUR, wallMs)).notAfterMs).toBe(wallMs + HOUR);
  });

  it("has a serial of its own", async () => {
    const issuer = await load(ca.issuer);
    const serials = await Promise.all(Array.from({ length: 8 }, async () => (await issue(issuer)).leaf.serialNumber));
    expect(new Set(serials).size).toBe(8);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it("can be signed with RSA and with P-384", async () => {
    const rsa = {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
      hash: "SHA-256",
    };
    for (const algorithm of [rsa, { name: "ECDSA", namedCurve: "P-384" }]) {
      const pair = await testCertificate({ ca: true, issuer: ca.root, algorithm });
      const { leaf } = await issue(await load(pair));
      expect(leaf.verify(new X509Certificate(pair.certificatePem).publicKey)).toBe(true);
    }
  });

  it("comes without the root, which the issuer itself can name", async () => {
    const selfSigned = await load(ca.root);
    expect((await issue(selfSigned)).chain).toHaveLength(2);
    const issuer = await load(ca.issuer);
    expect(issuer.rootPem.trim()).toBe(ca.root.certificatePem.trim());
    const withRoot = await Issuer.load(
      ca.issuer.certificatePem + ca.root.certificatePem,
      ca.issuer.keyPem,
      [ca.root.certificatePem],
      Date.now(),
    );
    expect((await issue(withRoot)).chain).toHaveLength(2);
  });
});

// NameConstraints { permittedSubtrees [0] { { dNSName [2] "cluster.local" } } }, and others of the same form.
const constraints = (list: "permitted" | "excluded", tag: number, base: string) => {
  const tlv = (type: number, content: Buffer) => Buffer.concat([Buffer.of(type, content.length), content]);
  const subtree = tlv(0x30, tlv(tag, Buffer.from(base)));
  return { "2.5.29.30": tlv(0x30, tlv(list === "permitted" ? 0xa0 : 0xa1, subtree)) };
};

describe("an issuer's limits", () => {
  it.each([
    ["permit the mesh's domain", "permitted", 0x82, "cluster.local", true],
    ["permit another domain", "permitted", 0x82, "example.com", false],
    ["permit a domain that only ends alike", "permitted", 0x82, "ter.local", false],
    ["exclude the namespace", "excluded", 0x82, "b.serviceaccount.identity.linkerd.cluster.local", false],
    ["exclude something else", "excluded", 0x82, "c.serviceaccount.identity.linkerd.cluster.local", true],
    ["permit the trust domain's URIs", "permitted", 0x86, "cluster.local", true],
    ["permit URIs of hosts below it only", "permitted", 0x86, ".cluster.local", false],
    ["exclude the trust domain's URIs", "excluded", 0x86, "cluster.local", false],
  ] as const)("that %s (%s %i %s) decide what it signs", async (_what, list, tag, base, may) => {
    const key = await verifyRequest(certificationRequest(generateKey()));
    const pair = await testCertificate({ ca: true, issuer: ca.root, extra: constraints(list, tag, base) });
    const issued = (await load(pair)).issue(key, NAMES, HOUR, Date.now());
    if (may) expect((await issued).chain).toHaveLength(2);
    else await expect(issued).rejects.toMatchObject({ code: "issuer-constraints" });
  });

  it("hold from the root downwards", async () => {
    const root = await testCertificate({ ca: true, extra: constraints("permitted", 0x82, "example.com") });
    const issuer = await load(await testCertificate({ ca: true, issuer: root }), [root.certificatePem]);
    const key = await verifyRequest(certificationRequest(generateKey()));
    await expect(issuer.issue(key, NAMES, HOUR, Date.now())).rejects.toMatchObject({ code: "issuer-constraints" });
  });

  it("of path length zero let it issue leaves, and no CA below it issue any", async () => {
    const zero = await testCertificate({ name: "zero", ca: true, issuer: ca.root, pathLength: 0 });
    await load(zero);
    const below = await testCertificate({ name: "below", ca: true, issuer: zero });
    const chain = below.certificatePem + zero.certificatePem;
    await expect(Issuer.load(chain, below.keyPem, [ca.root.certificatePem], Date.now())).rejects.toThrow(
      "path length 0",
    );
    const root = await testCertificate({ name: "short", ca: true, pathLength: 0 });
    const under = await testCertificate({ ca: true, issuer: root });
    await expect(load(under, [root.certificatePem])).rejects.toThrow("path length 0");
  });

  it("tell certificates of its own from those of its predecessor", async () => {
    const [one, two] = [await load(ca.issuer), await load(await testCertificate({ ca: true, issuer: ca.root }))];
    const key = await verifyRequest(certificationRequest(generateKey()));
    const leaf = new X509Certificate((await one.issue(key, NAMES, HOUR, Date.now())).chain[0] as Buffer);
    expect(one.signed(leaf)).toBe(true);
    expect(two.signed(leaf)).toBe(false);
    expect(one.sameAs(await load(ca.issuer))).toBe(true);
    expect(one.sameAs(two)).toBe(false);
  });
});

describe("an issuer is refused", () => {
  it.each([
    ["that is no CA", async () => load(await testCertificate({ issuer: ca.root })), "not a CA"],
    [
      "with another's key",
      () => Issuer.load(ca.issuer.certificatePem, ca.root.keyPem, [ca.root.certificatePem], Date.now()),
      "does not belong",
    ],
    ["under another root", async () => load(ca.issuer, [(await testMeshCa()).root.certificatePem]), "does not chain"],
    [
      "that has ended",
      async () => load(await testCertificate({ ca: true, issuer: ca.root, notAfterMs: Date.now() - 1 })),
      "does not chain",
    ],
    [
      "without a certificate",
      () => Issuer.load("", ca.issuer.keyPem, [ca.root.certificatePem], Date.now()),
      "no certificate",
    ],
  ])("%s", async (_what, attempt, words) => {
    await expect(attempt()).rejects.toThrow(words);
  });
});
