import {
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type SecureContextOptions,
  type TLSSocket,
} from "node:tls";
import type { WorkloadIdentity } from "../core/identity.ts";

// spec: linkerd2-proxy linkerd/rustls/src/crypto.rs. P-256 leaf keys are what stock peers can verify.
const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const SIGNATURES = "ECDSA+SHA384:ECDSA+SHA256:ECDSA+SHA512:ed25519:RSA+SHA512:RSA+SHA384:RSA+SHA256";
const GROUPS = "X25519MLKEM768:X25519:P-256:P-384";

/** The name by which meshed peers agree that a transport header precedes the stream. */
export const TRANSPORT_ALPN = "transport.l5d.io/v1";

/** What every TLS endpoint of ours has in common, either role. One per identity generation. */
export function secureContextOptions(identity: WorkloadIdentity, groups: string = GROUPS): SecureContextOptions {
  return {
    key: identity.keyPem,
    cert: identity.certificatePem,
    ca: [...identity.trustAnchorsPem],
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ciphers: CIPHERS,
    sigalgs: SIGNATURES,
    ecdhCurve: groups,
    // An intermediate in the bundle is an anchor for stock proxies; OpenSSL needs to be told.
    allowPartialTrustChain: true,
  };
}

export function clientContext(identity: WorkloadIdentity, groups?: string): SecureContext {
  return createSecureContext(secureContextOptions(identity, groups));
}

const DNS_NAME = /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * The names in a certificate that count as identities, in certificate order: DNS names (lower case, no wildcard, no
 * trailing dot) and absolute URIs. The first one names a client; any of them may prove a server
 * (linkerd/meshtls/verifier/src/lib.rs).
 * @param subjectAltName - Node's text form, `DNS:a, URI:b`, where unusual values are JSON-quoted.
 */
export function identitiesOf(subjectAltName: string | undefined): string[] {
  if (subjectAltName === undefined) return [];
  const names: string[] = [];
  for (const entry of splitAltNames(subjectAltName)) {
    const colon = entry.indexOf(":");
    const kind = entry.slice(0, colon);
    const value = entry.slice(colon + 1);
    if (kind === "DNS") {
      const lower = value.toLowerCase();
      if (DNS_NAME.test(lower) && !/(?:^|\.)\d+$/.test(lower)) names.push(lower);
    } else if (kind === "URI" && URL.canParse(value)) {
      names.push(value);
    }
  }
  return names;
}

// Node quotes a value as JSON when it holds a comma, a quote or a control character (CVE-2021-44532): such a value is
// no identity, and its commas must not make two entries.
function splitAltNames(text: string): string[] {
  const entries: string[] = [];
  let start = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') {
      quoted = true;
    } else if (c === "," && text[i + 1] === " ") {
      entries.push(text.slice(start, i));
      start = i + 2;
    }
  }
  entries.push(text.slice(start));
  return entries.filter((entry) => !entry.includes('"'));
}

/** Why a certificate that may sign others proves nobody's identity. */
export const AUTHORITY_AS_LEAF = "a certificate authority is no workload";

/**
 * Whether a certificate is an authority's. OpenSSL takes one for a leaf as long as its key may sign handshakes; stock
 * proxies do not (webpki: CaUsedAsEndEntity), and whoever holds an issuer's key must not be everybody with it.
 */
export function isAuthority(certificate: PeerCertificate): boolean {
  return certificate.ca === true;
}

/** What a finished handshake proved about the peer. */
export type PeerProof =
  | { readonly kind: "identity"; readonly names: readonly string[] }
  /** No certificate, or a valid one without a usable name. */
  | { readonly kind: "anonymous" }
  /** A certificate was shown and does not verify: the connection must not go on. */
  | { readonly kind: "refused"; readonly why: string };

/**
 * Judges the peer of a server-side handshake. Only `authorized === true` makes an identity: Node shows the SAN of a
 * forged certificate just as readily.
 */
export function proofOf(socket: TLSSocket): PeerProof {
  const certificate: PeerCertificate | undefined = socket.getPeerCertificate();
  // Node gives an empty object when the client sent none.
  if (certificate === undefined || Object.keys(certificate).length === 0) return { kind: "anonymous" };
  if (socket.authorized !== true) return { kind: "refused", why: String(socket.authorizationError) };
  if (isAuthority(certificate)) return { kind: "refused", why: AUTHORITY_AS_LEAF };
  const names = identitiesOf(certificate.subjectaltname);
  return names.length > 0 ? { kind: "identity", names } : { kind: "anonymous" };
}
