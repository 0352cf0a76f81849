import { createPrivateKey, X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { Authority, createPki } from "../../../src/lab/pki.ts";

test("root, issuer and leaf are one chain", async () => {
  const { root, issuer, trustAnchorsPem } = await createPki();
  expect(root.chain).toEqual([]);
  expect(root.certificate.ca).toBe(true);
  expect(issuer.certificate.ca).toBe(true);
  expect(issuer.certificate.checkIssued(root.certificate)).toBe(true);
  expect(issuer.certificate.verify(root.certificate.publicKey)).toBe(true);
  expect(trustAnchorsPem).toEqual([root.certificatePem]);

  const { leaf, keyPem, certificatePem } = await issuer.issue({ dns: ["a.test"], uri: ["spiffe://t/a"] });
  expect(leaf.ca).toBe(false);
  expect(leaf.checkIssued(issuer.certificate)).toBe(true);
  expect(leaf.verify(issuer.certificate.publicKey)).toBe(true);
  expect(leaf.checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
  // DNS before URI: peers name a client by its first SAN.
  expect(leaf.subjectAltName).toBe("DNS:a.test, URI:spiffe://t/a");
  expect(certificatePem.match(/BEGIN/g)).toHaveLength(2);
  expect(new X509Certificate(certificatePem).raw.equals(leaf.raw)).toBe(true);
});

test("validity is what was asked for, to the second", async () => {
  const root = await Authority.root("r");
  const notBeforeMs = Date.UTC(2030, 0, 1);
  const { leaf } = await root.issue({ dns: ["a"] }, { notBeforeMs, notAfterMs: notBeforeMs + 10_000 });
  expect(leaf.validFromDate.getTime()).toBe(notBeforeMs);
  expect(leaf.validToDate.getTime()).toBe(notBeforeMs + 10_000);
});
