// Its decorators need this, and before them.
import "reflect-metadata";
import { createPrivateKey, type KeyObject, randomBytes, webcrypto, X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { Millis } from "../../proxy/core/clock.ts";
import { BootstrapError, chainsTo, derToPem, spkiFingerprint, splitPem, validity } from "../control/index.ts";
import { derElements } from "./der.ts";
import { forbidden } from "./name-constraints.ts";

/** Clocks differ: a certificate is valid from a minute ago. */
const SKEW_MS = 60_000;
export const LIFETIME_LIMITS = { minMs: 3_600_000, maxMs: 30 * 86_400_000, defaultMs: 86_400_000 } as const;

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** A public key whose owner has proved to hold the private half. */
export interface ProvenKey {
  /** SPKI DER. */
  readonly spki: Buffer;
  /** SHA-256 of it, hexadecimal. */
  readonly fingerprint: string;
}

export interface IssuedCertificate {
  /** Leaf first, then the issuer and its issuers, without the root. DER. */
  readonly chain: readonly Buffer[];
  readonly notAfterMs: number;
}

// Ours has some 200 bytes. Parsing costs time, and anybody who holds a string may send one.
const MAX_REQUEST_BYTES = 4096;

/**
 * Checks a certification request: one DER element and nothing behind it, self-signature right, key ECDSA P-256 (the only
 * kind that stock proxies can use), and no word about names: the enroller chooses them, so that whoever asks for some
 * has something in mind.
 * @throws BootstrapError `request-refused`.
 */
export async function verifyRequest(der: Uint8Array): Promise<ProvenKey> {
  if (der.length > MAX_REQUEST_BYTES)
    throw refused(`the certification request has more than ${MAX_REQUEST_BYTES} bytes`);
  try {
    // The parser behind would not mind what follows.
    if (derElements(Buffer.from(der)).length !== 1)
      throw refused("there must be one certification request, and nothing behind it");
    const request = new x509.Pkcs10CertificateRequest(Buffer.from(der));
    const { algorithm, rawData } = request.publicKey;
    if (algorithm.name !== "ECDSA" || (algorithm as webcrypto.EcKeyAlgorithm).namedCurve !== "P-256") {
      throw refused("the key of the request is not ECDSA P-256");
    }
    if (request.subject !== "" || request.attributes.length > 0) {
      throw refused("the request asks for a name or an extension: the enroller chooses them");
    }
    if (!(await request.verify(webcrypto as Crypto))) {
      throw refused("the request does not prove that its key is held");
    }
    const spki = Buffer.from(rawData);
    return { spki, fingerprint: spkiFingerprint(spki) };
  } catch (error) {
    if (error instanceof BootstrapError) throw error;
    throw new BootstrapError("request-refused", "the certification request cannot be read", { cause: error });
  }
}

function refused(why: string): BootstrapError {
  return new BootstrapError("request-refused", why);
}

/** Signs with one CA key. A replaced Secret makes a new issuer. */
export class Issuer {
  readonly #key: webcrypto.CryptoKey;
  readonly #algorithm: webcrypto.Algorithm | webcrypto.EcdsaParams;
  readonly #certificate: x509.X509Certificate;
  readonly #chain: readonly X509Certificate[];
  readonly #keyId: x509.AuthorityKeyIdentifierExtension;
  /** Every root that is trusted, PEM. */
  readonly trustAnchorsPem: readonly string[];
  /** Moment at which the first certificate of the chain ends, Unix milliseconds. */
  readonly notAfterMs: number;

  private constructor(
    key: webcrypto.CryptoKey,
    algorithm: webcrypto.Algorithm | webcrypto.EcdsaParams,
    chain: readonly X509Certificate[],
    keyId: x509.AuthorityKeyIdentifierExtension,
    trustAnchorsPem: readonly string[],
  ) {
    this.#key = key;
    this.#algorithm = algorithm;
    this.#chain = chain;
    this.#certificate = new x509.X509Certificate((chain[0] as X509Certificate).raw);
    this.#keyId = keyId;
    this.trustAnchorsPem = trustAnchorsPem;
    this.notAfterMs = Math.min(...chain.map((certificate) => validity(certificate).notAfterMs));
  }

  /**
   * Loads a CA certificate (with intermediates, if any) and its key: PKCS#8, SEC 1 or PKCS#1 PEM, ECDSA or RSA.
   * @param wallMs - Unix milliseconds, for validity.
   * @throws Error, one line, if the pair does not fit, is no CA, has ended, or does not chain to an anchor.
   */
  static async load(
    certificatePem: string,
    keyPem: string,
    trustAnchorsPem: readonly string[],
    wallMs: number,
  ): Promise<Issuer> {
    const roots = trustAnchorsPem.map((pem) => new X509Certificate(pem));
    // The root itself travels with the anchors, not in the chain.
    const chain = splitPem(certificatePem)
      .map((pem) => new X509Certificate(pem))
      .filter((certificate, i) => i === 0 || !roots.some((root) => root.raw.equals(certificate.raw)));
    const own = chain[0];
    if (own === undefined) throw new Error("the issuer Secret holds no certificate");
    if (!own.ca) throw new Error("the issuer's certificate is not a CA's");
    checkPath(chain, roots);
    const key = createPrivateKey(keyPem);
    if (!own.checkPrivateKey(key)) throw new Error("the issuer's key does not belong to its certificate");
    if (!chainsTo(chain, roots, wallMs))
      throw new Error("the issuer's certificate does not chain to a trust anchor now");
    const { importAs, algorithm } = signatureOf(key);
    const secret = await webcrypto.subtle.importKey(
      "pkcs8",
      key.export({ type: "pkcs8", format: "der" }),
      importAs,
      false,
      ["sign"],
    );
    const certificate = new x509.X509Certificate(own.raw);
    const subjectKeyId = certificate.getExtension(x509.SubjectKeyIdentifierExtension);
    const keyId =
      subjectKeyId === null
        ? await x509.AuthorityKeyIdentifierExtension.create(certificate.publicKey, false, webcrypto as Crypto)
        : new x509.AuthorityKeyIdentifierExtension(subjectKeyId.keyId, false);
    return new Issuer(secret as webcrypto.CryptoKey, algorithm, chain, keyId, trustAnchorsPem);
  }

  /**
   * Issues a leaf for a workload.
   *
   * @param names - `dns` becomes the first SAN, `uri` the second: a stock server names a client by its first name, a
   *   stock client accepts a server by any.
   * @param lifetimeMs - From now; cut to what the issuer's chain has left.
   * @throws BootstrapError `try-again` if the issuer itself has ended.
   */
  async issue(
    key: ProvenKey,
    names: { readonly dns: string; readonly uri: string | undefined },
    lifetimeMs: Millis,
    wallMs: number,
  ): Promise<IssuedCertificate> {
    const wrong = forbidden(this.#authorities(), names);
    if (wrong !== undefined) {
      throw new BootstrapError(
        "issuer-constraints",
        `the mesh's issuer must not sign for ${wrong}: its name constraints`,
      );
    }
    const notAfterMs = Math.floor(Math.min(wallMs + lifetimeMs, this.notAfterMs) / 1000) * 1000;
    if (notAfterMs <= wallMs) throw new BootstrapError("try-again", "the mesh's issuer certificate has ended");
    const alternative: x509.JsonGeneralNames = [{ type: "dns", value: names.dns }];
    if (names.uri !== undefined) alternative.push({ type: "url", value: names.uri });
    const publicKey = new x509.PublicKey(new Uint8Array(key.spki));
    const leaf = await x509.X509CertificateGenerator.create(
      {
        serialNumber: randomSerial(),
        issuer: this.#certificate.subjectName,
        // No subject: the names are in the SAN, which then must be critical (RFC 5280 §4.2.1.6).
        notBefore: new Date(Math.max(wallMs - SKEW_MS, validity(this.#chain[0] as X509Certificate).notBeforeMs)),
        notAfter: new Date(notAfterMs),
        publicKey,
        signingKey: this.#key,
        signingAlgorithm: this.#algorithm,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH], false),
          new x509.SubjectAlternativeNameExtension(alternative, true),
          this.#keyId,
          await x509.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto as Crypto),
        ],
      },
      webcrypto as Crypto,
    );
    return { chain: [Buffer.from(leaf.rawData), ...this.#chain.map((certificate) => certificate.raw)], notAfterMs };
  }

  /** Whether this issuer's key signed a certificate: not its predecessor's. */
  signed(certificate: X509Certificate): boolean {
    const own = this.#chain[0] as X509Certificate;
    return certificate.checkIssued(own) && certificate.verify(own.publicKey);
  }

  sameAs(other: Issuer): boolean {
    return (this.#chain[0] as X509Certificate).raw.equals((other.#chain[0] as X509Certificate).raw);
  }

  #authorities(): readonly Buffer[] {
    return [...this.#chain.map((certificate) => certificate.raw), new X509Certificate(this.rootPem).raw];
  }

  /** The anchor at the end of our chain, PEM: the one to show to clients that look for a pinned root. */
  get rootPem(): string {
    const last = this.#chain.at(-1) as X509Certificate;
    const root = this.trustAnchorsPem.find((pem) => {
      const anchor = new X509Certificate(pem);
      return anchor.raw.equals(last.raw) || (last.checkIssued(anchor) && last.verify(anchor.publicKey));
    });
    return root ?? derToPem(last.raw);
  }
}

/**
 * RFC 5280 §4.2.1.9: how many CAs may stand between a CA and a leaf. Linkerd's own issuer has zero, and may sign.
 * @throws Error, one line.
 */
function checkPath(chain: readonly X509Certificate[], roots: readonly X509Certificate[]): void {
  const last = chain.at(-1) as X509Certificate;
  const root = roots.find((anchor) => !anchor.raw.equals(last.raw) && last.checkIssued(anchor));
  for (const [below, authority] of [...chain, ...(root === undefined ? [] : [root])].entries()) {
    const parsed = new x509.X509Certificate(authority.raw);
    const allowed = parsed.getExtension(x509.BasicConstraintsExtension)?.pathLength;
    if (allowed !== undefined && below > allowed) {
      throw new Error(
        `path length ${allowed} of CA ${authority.subject || "without a name"} does not allow ${below} below it`,
      );
    }
    const usages = parsed.getExtension(x509.KeyUsagesExtension)?.usages;
    if (usages !== undefined && (usages & x509.KeyUsageFlags.keyCertSign) === 0) {
      throw new Error(`CA ${authority.subject || "without a name"} must not sign certificates (key usage)`);
    }
  }
}

/** 127 random bits, positive: unlike a counter, unique across restarts and replicas. */
function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function signatureOf(key: KeyObject): {
  readonly importAs: webcrypto.EcKeyImportParams | webcrypto.RsaHashedImportParams;
  readonly algorithm: webcrypto.EcdsaParams | webcrypto.Algorithm;
} {
  if (key.asymmetricKeyType === "rsa") {
    const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    return { importAs: rsa, algorithm: rsa };
  }
  switch (key.asymmetricKeyDetails?.namedCurve) {
    case "prime256v1":
      return { importAs: { name: "ECDSA", namedCurve: "P-256" }, algorithm: { name: "ECDSA", hash: "SHA-256" } };
    case "secp384r1":
      return { importAs: { name: "ECDSA", namedCurve: "P-384" }, algorithm: { name: "ECDSA", hash: "SHA-384" } };
    default:
      throw new Error("the issuer's key is neither ECDSA (P-256, P-384) nor RSA");
  }
}
