import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

/** A certificate with its key, PEM. */
export interface TestPair {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly certificate: x509.X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

export interface TestCertificateOptions {
  readonly name?: string;
  readonly sans?: x509.JsonGeneralNames;
  readonly ca?: boolean;
  readonly issuer?: TestPair;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly algorithm?: webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams | { readonly name: "Ed25519" };
  readonly usages?: readonly string[];
  /** What the key may do; default: sign certificates for a CA, else sign. */
  readonly keyUsage?: number;
  /** Of the issuer's signature; SHA-256 unless told. */
  readonly hash?: string;
  /** Of a CA: how many CAs may stand below it. */
  readonly pathLength?: number;
  /** Whose certificate it is, where that is known by a request; the pair's own key is then another. */
  readonly publicKey?: webcrypto.CryptoKey;
  /** DER of more extensions, by OID. */
  readonly extra?: Readonly<Record<string, Uint8Array>>;
}

const P256 = { name: "ECDSA", namedCurve: "P-256" };

/** Makes certificates of any shape, good and bad, for tests. */
export async function testCertificate(options: TestCertificateOptions = {}): Promise<TestPair> {
  const keys = (await webcrypto.subtle.generateKey(options.algorithm ?? P256, true, [
    "sign",
    "verify",
  ])) as webcrypto.CryptoKeyPair;
  const { issuer } = options;
  const signer = issuer?.keys ?? keys;
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(options.ca === true, options.pathLength, true),
    new x509.KeyUsagesExtension(
      options.keyUsage ??
        (options.ca === true
          ? x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
          : x509.KeyUsageFlags.digitalSignature),
      true,
    ),
    await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as Crypto),
  ];
  // By it, and not by its name, is the right one of two roots found: those of a rotation are called the same.
  if (issuer !== undefined) {
    extensions.push(
      await x509.AuthorityKeyIdentifierExtension.create(issuer.keys.publicKey, false, webcrypto as Crypto),
    );
  }
  if (options.ca !== true) {
    extensions.push(
      new x509.ExtendedKeyUsageExtension([...(options.usages ?? ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"])], false),
    );
  }
  for (const [oid, value] of Object.entries(options.extra ?? {})) {
    extensions.push(new x509.Extension(oid, true, new Uint8Array(value)));
  }
  if (options.sans !== undefined) extensions.push(new x509.SubjectAlternativeNameExtension(options.sans, false));
  const { name } = signer.privateKey.algorithm;
  const hash = options.hash ?? "SHA-256";
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString("hex"),
      subject: `CN=${options.name ?? "test"}`,
      issuer: issuer?.certificate.subjectName ?? `CN=${options.name ?? "test"}`,
      notBefore: new Date(options.notBeforeMs ?? Date.now() - 3_600_000),
      notAfter: new Date(options.notAfterMs ?? Date.now() + 365 * 86_400_000),
      publicKey: options.publicKey ?? keys.publicKey,
      signingKey: signer.privateKey,
      signingAlgorithm: name === "Ed25519" ? { name } : { name, hash },
      extensions,
    },
    webcrypto as Crypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${(pkcs8.toString("base64").match(/.{1,64}/g) ?? []).join("\n")}\n-----END PRIVATE KEY-----\n`;
  return { certificatePem: `${certificate.toString("pem")}\n`, keyPem, certificate, keys };
}

/** A root and an issuer under it, as `linkerd install` would have them. */
export async function testMeshCa(): Promise<{ readonly root: TestPair; readonly issuer: TestPair }> {
  const root = await testCertificate({ name: "root.linkerd.cluster.local", ca: true });
  const issuer = await testCertificate({ name: "identity.linkerd.cluster.local", ca: true, issuer: root });
  return { root, issuer };
}
