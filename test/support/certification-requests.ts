import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { certificationRequest, generateKey } from "../../src/bootstrap/identity/index.ts";

type Algorithm = webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams;

const P256: Algorithm = { name: "ECDSA", namedCurve: "P-256" };
const RSA: Algorithm = {
  name: "RSASSA-PKCS1-v1_5",
  modulusLength: 2048,
  publicExponent: Buffer.of(1, 0, 1),
  hash: "SHA-256",
};

async function made(
  algorithm: Algorithm,
  more: { readonly name?: string; readonly extensions?: x509.Extension[] } = {},
): Promise<Buffer> {
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
  const signingAlgorithm = algorithm.name === "ECDSA" ? { name: "ECDSA", hash: "SHA-256" } : { name: algorithm.name };
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    { keys, signingAlgorithm, ...more },
    webcrypto as Crypto,
  );
  return Buffer.from(request.rawData);
}

function broken(): Buffer {
  const request = certificationRequest(generateKey());
  request[request.length - 1] = (request[request.length - 1] ?? 0) ^ 1;
  return request;
}

/** Requests that no enroller may sign: what is wrong, the bytes, and words that the refusal must have. */
export const BAD_REQUESTS: readonly (readonly [string, () => Buffer | Promise<Buffer>, string])[] = [
  ["an RSA key", () => made(RSA), "not ECDSA P-256"],
  ["a key of P-384", () => made({ name: "ECDSA", namedCurve: "P-384" }), "not ECDSA P-256"],
  ["a key of P-521", () => made({ name: "ECDSA", namedCurve: "P-521" }), "not ECDSA P-256"],
  ["a subject", () => made(P256, { name: "CN=admin" }), "asks for a name"],
  [
    "names of its own",
    () =>
      made(P256, {
        extensions: [
          new x509.SubjectAlternativeNameExtension([
            { type: "dns", value: "admin.kube-system.serviceaccount.identity.linkerd.cluster.local" },
            { type: "url", value: "spiffe://cluster.local/ns/kube-system/sa/admin" },
          ]),
        ],
      }),
    "asks for a name",
  ],
  [
    "the wish to be a CA",
    () => made(P256, { extensions: [new x509.BasicConstraintsExtension(true, 3, true)] }),
    "asks for a name or an extension",
  ],
  ["a broken signature", broken, "does not prove that its key is held"],
  ["a byte behind it", () => Buffer.concat([certificationRequest(generateKey()), Buffer.of(0)]), "cannot be read"],
  [
    "another one behind it",
    () => Buffer.concat([certificationRequest(generateKey()), certificationRequest(generateKey())]),
    "nothing behind it",
  ],
  ["nothing in it", () => Buffer.alloc(0), "nothing behind it"],
  ["garbage", () => Buffer.alloc(200, 0x5a), "cannot be read"],
  ["a sequence without an end", () => Buffer.from("3084ffffffff3084ffffffff", "hex"), "cannot be read"],
  ["a thousand levels", () => Buffer.alloc(4000, Buffer.from("3080", "hex")), "cannot be read"],
  ["32 KiB", () => Buffer.alloc(32 * 1024, 0x30), "more than 4096 bytes"],
];
