import { createHash, X509Certificate } from "node:crypto";

/** One subject alternative name. */
export interface AlternativeName {
  readonly kind: "dns" | "uri" | "other";
  readonly value: string;
}

// Node prints `DNS:a, URI:b`, and quotes a value as JSON where it holds a character that could be mistaken for syntax.
const ALTERNATIVE = /(?:^|, )([A-Za-z][A-Za-z ]*):("(?:[^"\\]|\\.)*"|[^,"]*)/y;

/**
 * The subject alternative names, in the order of the certificate.
 * @returns empty if there are none, or if the extension is spelled in a way that cannot be read without doubt.
 */
export function alternativeNames(certificate: X509Certificate): readonly AlternativeName[] {
  const text = certificate.subjectAltName;
  if (text === undefined) return [];
  const names: AlternativeName[] = [];
  ALTERNATIVE.lastIndex = 0;
  for (let at = 0; at < text.length; at = ALTERNATIVE.lastIndex) {
    const match = ALTERNATIVE.exec(text);
    if (match === null) return [];
    const raw = match[2] as string;
    const value = raw.startsWith('"') ? (JSON.parse(raw) as string) : raw;
    names.push({ kind: match[1] === "DNS" ? "dns" : match[1] === "URI" ? "uri" : "other", value });
  }
  return names;
}

/**
 * Who a verified certificate names as a client: its first DNS or URI name, DNS in lower case. A wildcard or a trailing
 * dot names nobody (linkerd2-proxy's rule: an identity is one name, compared whole).
 */
export function clientIdentity(certificate: X509Certificate): string | undefined {
  const first = alternativeNames(certificate).find((name) => name.kind !== "other");
  if (first === undefined) return undefined;
  if (first.kind === "uri") return first.value;
  return isPlainDns(first.value) ? first.value.toLowerCase() : undefined;
}

/** Whether any DNS name of a verified certificate is exactly this one. Case does not matter, wildcards never match. */
export function provesDnsName(certificate: X509Certificate, name: string): boolean {
  const wanted = name.toLowerCase();
  return alternativeNames(certificate).some((san) => san.kind === "dns" && san.value.toLowerCase() === wanted);
}

function isPlainDns(value: string): boolean {
  return value.length <= 253 && /^(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/i.test(value);
}

/** Splits PEM text into its certificates. Other blocks are skipped. */
export function splitPem(text: string): readonly string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)?.map((pem) => `${pem}\n`) ?? [];
}

export function derToPem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/** SHA-256 of the DER: what a join string pins. */
export function certificatePin(certificate: X509Certificate): Buffer {
  return createHash("sha256").update(certificate.raw).digest();
}

/** SHA-256 of a public key's SPKI DER, hexadecimal: what the enroller remembers of a host's key. */
export function keyFingerprint(certificate: X509Certificate): string {
  return spkiFingerprint(certificate.publicKey.export({ type: "spki", format: "der" }));
}

export function spkiFingerprint(spki: Uint8Array): string {
  return createHash("sha256").update(spki).digest("hex");
}

/** Unix milliseconds. */
export function validity(certificate: X509Certificate): { readonly notBeforeMs: number; readonly notAfterMs: number } {
  return { notBeforeMs: certificate.validFromDate.getTime(), notAfterMs: certificate.validToDate.getTime() };
}

/**
 * Whether a chain (leaf first) ends at one of the roots, by names, signatures and validity at `wallMs`. Every issuer
 * must be a CA. A second opinion before an answer is stored; the handshake itself is judged by OpenSSL.
 */
export function chainsTo(
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  wallMs: number,
): boolean {
  const valid = (certificate: X509Certificate): boolean => {
    const { notBeforeMs, notAfterMs } = validity(certificate);
    return notBeforeMs <= wallMs && wallMs < notAfterMs;
  };
  const issued = (child: X509Certificate, issuer: X509Certificate): boolean =>
    issuer.ca && child.checkIssued(issuer) && child.verify(issuer.publicKey);
  let last: X509Certificate | undefined;
  for (const certificate of chain) {
    if (!valid(certificate) || (last !== undefined && !issued(last, certificate))) return false;
    last = certificate;
  }
  if (last === undefined) return false;
  const end = last;
  return roots.some((root) => valid(root) && (root.raw.equals(end.raw) || issued(end, root)));
}

/** Reads DER from a stranger. */
export function parseDer(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

/** The DER of the first certificate in PEM text; empty if there is none. */
export function pemToDer(pem: string): Buffer {
  const body = /-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/.exec(pem)?.[1] ?? "";
  return Buffer.from(body, "base64");
}
