// Its decorators need this, and before them.
import "reflect-metadata";
import { randomBytes, webcrypto, X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";

const P256 = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" } as const;
const CRYPTO = webcrypto as Crypto;

const DAY_MS = 86_400_000;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** From when until when, Unix milliseconds. */
export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** The names of a leaf. They appear in this order: a stock peer names a client by its first one. */
export interface LeafNames {
  readonly dns?: readonly string[];
  readonly uri?: readonly string[];
}

/** A private key with the certificates that vouch for it. */
export interface Credentials {
  /** PKCS#8. */
  readonly keyPem: string;
  /** Leaf first, then its issuers without the root. */
  readonly certificatePem: string;
  readonly leaf: X509Certificate;
}

/** What {@link Authority.sign} puts its name to. */
export interface LeafRequest {
  readonly names: LeafNames;
  /** SPKI, DER. */
  readonly publicKey: Uint8Array;
  /** Empty unless told. */
  readonly subject?: x509.Name;
  readonly validity: Validity;
  /** Hexadecimal; random unless told. */
  readonly serial?: string;
}

/**
 * A certificate authority of the lab: P-256, key in memory. The root makes issuers, the issuers make leaves. Not for
 * production: nothing protects the key, and nothing is revoked.
 */
export class Authority {
  readonly certificate: X509Certificate;
  /** PKCS#8. */
  readonly keyPem: string;
  /** This authority first, then its issuers without the root; empty for a root. */
  readonly chain: readonly X509Certificate[];
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #parsed: x509.X509Certificate;

  private constructor(
    keys: webcrypto.CryptoKeyPair,
    keyPem: string,
    certificate: x509.X509Certificate,
    above: readonly X509Certificate[] | undefined,
  ) {
    this.#keys = keys;
    this.#parsed = certificate;
    this.keyPem = keyPem;
    this.certificate = new X509Certificate(Buffer.from(certificate.rawData));
    this.chain = above === undefined ? [] : [this.certificate, ...above];
  }

  /** Makes a root: a trust anchor, valid for ten years from a day ago unless told. */
  static async root(commonName: string, validity: Validity = around(Date.now(), 3650 * DAY_MS)): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned(
      {
        serialNumber: serial(),
        name: distinguished(commonName),
        notBefore: new Date(validity.notBeforeMs),
        notAfter: new Date(validity.notAfterMs),
        signingAlgorithm: SIGNATURE,
        keys,
        extensions: await authorityExtensions(keys.publicKey, undefined),
      },
      CRYPTO,
    );
    return new Authority(keys, await exportKey(keys.privateKey), certificate, undefined);
  }

  /** Takes up an issuer from where it is kept: its certificate, with those above it but the root, and its key. */
  static async load(certificatePem: string, keyPem: string): Promise<Authority> {
    const pems = certificatePem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    const [own, ...above] = pems.map((pem) => new X509Certificate(pem));
    if (own === undefined) throw new Error("no certificate");
    const certificate = new x509.X509Certificate(own.raw);
    const usages: KeyUsage[] = ["sign"];
    const privateKey = await webcrypto.subtle.importKey(
      "pkcs8",
      x509.PemConverter.decodeFirst(keyPem),
      P256,
      true,
      usages,
    );
    const publicKey = (await certificate.publicKey.export(P256, ["verify"], CRYPTO)) as webcrypto.CryptoKey;
    return new Authority({ privateKey, publicKey }, keyPem, certificate, above);
  }

  /** PEM of this authority alone: for a root, the trust anchor. */
  get certificatePem(): string {
    return this.certificate.toString();
  }

  /** Makes an authority below this one that can issue leaves only (path length 0), as Linkerd's identity issuer. */
  async issuer(commonName: string, validity: Validity = around(Date.now(), 365 * DAY_MS)): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await this.#certify(
      await x509.PublicKey.create(keys.publicKey, CRYPTO),
      distinguished(commonName),
      validity,
      serial(),
      await authorityExtensions(keys.publicKey, 0),
    );
    return new Authority(keys, await exportKey(keys.privateKey), certificate, this.chain);
  }

  /** Makes a key and a leaf for it, valid for a day from a minute ago unless told. */
  async issue(names: LeafNames, validity?: Validity): Promise<Credentials> {
    const now = Date.now();
    const keys = await newKeys();
    const publicKey = Buffer.from(await webcrypto.subtle.exportKey("spki", keys.publicKey));
    const der = await this.sign({
      names,
      publicKey,
      validity: validity ?? { notBeforeMs: now - 60_000, notAfterMs: now + DAY_MS },
    });
    const leaf = new X509Certificate(der);
    const certificatePem = [leaf, ...this.chain].map((certificate) => certificate.toString()).join("");
    return { keyPem: await exportKey(keys.privateKey), certificatePem, leaf };
  }

  /** Signs a leaf for somebody else's key. Returns DER. */
  async sign(request: LeafRequest): Promise<Buffer> {
    const { dns = [], uri = [] } = request.names;
    const names: x509.JsonGeneralNames = [
      ...dns.map((value) => ({ type: "dns" as const, value })),
      ...uri.map((value) => ({ type: "url" as const, value })),
    ];
    const publicKey = new x509.PublicKey(Buffer.from(request.publicKey));
    const subject = request.subject?.toString() ?? "";
    const leaf = await this.#certify(publicKey, subject, request.validity, request.serial ?? serial(), [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH], false),
      // RFC 5280 §4.2.1.6: critical where the subject is empty.
      new x509.SubjectAlternativeNameExtension(names, subject === ""),
    ]);
    return Buffer.from(leaf.rawData);
  }

  async #certify(
    publicKey: x509.PublicKey,
    subject: string,
    validity: Validity,
    serialNumber: string,
    extensions: readonly x509.Extension[],
  ): Promise<x509.X509Certificate> {
    return await x509.X509CertificateGenerator.create(
      {
        serialNumber,
        subject,
        issuer: this.#parsed.subjectName,
        notBefore: new Date(validity.notBeforeMs),
        notAfter: new Date(validity.notAfterMs),
        publicKey,
        signingKey: this.#keys.privateKey,
        signingAlgorithm: SIGNATURE,
        extensions: [
          ...extensions,
          await x509.AuthorityKeyIdentifierExtension.create(this.#keys.publicKey, false, CRYPTO),
        ],
      },
      CRYPTO,
    );
  }
}

/** A trust domain in two calls: a root and the issuer below it. */
export interface LabPki {
  readonly root: Authority;
  readonly issuer: Authority;
  /** Every root that is trusted, PEM. */
  readonly trustAnchorsPem: readonly string[];
}

/** Makes the lab's root and issuer, named as Linkerd's own are. */
export async function createPki(trustDomain = "cluster.local"): Promise<LabPki> {
  const root = await Authority.root(`root.linkerd.${trustDomain}`);
  const issuer = await root.issuer(`identity.linkerd.${trustDomain}`);
  return { root, issuer, trustAnchorsPem: [root.certificatePem] };
}

function around(now: number, lifetimeMs: number): Validity {
  return { notBeforeMs: now - DAY_MS, notAfterMs: now + lifetimeMs };
}

function distinguished(commonName: string): string {
  return new x509.Name([{ CN: [commonName] }]).toString();
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(P256, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

async function authorityExtensions(
  key: webcrypto.CryptoKey,
  pathLength: number | undefined,
): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(key, false, CRYPTO),
  ];
}

/** 127 random bits, positive. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
