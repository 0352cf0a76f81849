import type { KeyObject, X509Certificate } from "node:crypto";
import type { Certificate, TrustAnchors } from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import type { WorkloadIdentity } from "../../proxy/core/identity.ts";
import {
  alternativeNames,
  BootstrapError,
  chainsTo,
  derToPem,
  identityName,
  identityUri,
  type MeshNames,
  parseDer,
  validity,
  type WorkloadName,
} from "../control/index.ts";
import { exportKey, publicKeyDer } from "./key.ts";

/** A host whose clock is further behind cannot judge certificates at all; the enroller's bound too. */
const MAX_SKEW_MS = 300_000;
/** Longer than the enroller ever issues (30 days), with room for clocks. */
const MAX_LIFE_MS = 32 * 86_400_000;
/** A life of less could not be renewed in time. */
const MIN_LEFT_MS = 60_000;
const MAX_CHAIN = 8;
const MAX_ROOTS = 64;

export interface Expected {
  readonly key: KeyObject;
  readonly workload: WorkloadName;
  readonly mesh: MeshNames;
  /** Unix milliseconds. */
  readonly wallMs: number;
  /** Of the identity that comes out. */
  readonly generation: number;
}

/**
 * Judges a certificate that an enroller sent, whoever it claims to be: it must be for our key and our names, in the
 * order that peers rely on, valid now and for a sane time, and chain to the roots that came with it.
 *
 * @throws BootstrapError `answer-refused` or `clock-skew`, one line that names the fault. What was used before stays.
 */
export function acceptAnswer(
  certificate: Certificate | undefined,
  anchors: TrustAnchors | undefined,
  expected: Expected,
): WorkloadIdentity {
  const chain = readAll(certificate?.chain ?? [], MAX_CHAIN, "the certificate chain");
  const roots = readAll(anchors?.roots ?? [], MAX_ROOTS, "the trust anchors");
  const leaf = chain[0] as X509Certificate;
  const { workload, mesh, key, wallMs } = expected;
  if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(publicKeyDer(key))) {
    throw refused("the certificate is for another key");
  }
  const name = identityName(workload.serviceAccount, workload.namespace, mesh);
  const uri = identityUri(workload.serviceAccount, workload.namespace, mesh);
  const names = alternativeNames(leaf);
  if (names.length !== 2 || names[0]?.kind !== "dns" || names[0].value !== name) {
    throw refused(`the certificate is not for ${name}`);
  }
  if (names[1]?.kind !== "uri" || names[1].value !== uri) throw refused(`the certificate is not for ${uri}`);
  if (leaf.ca) throw refused("the certificate is a CA's");
  const { notBeforeMs, notAfterMs } = validity(leaf);
  if (notBeforeMs > wallMs + MAX_SKEW_MS) {
    throw new BootstrapError(
      "clock-skew",
      `the certificate is not valid before ${new Date(notBeforeMs).toISOString()}`,
    );
  }
  if (notAfterMs < wallMs + MIN_LEFT_MS) throw refused("the certificate has ended, or is about to");
  if (notAfterMs - notBeforeMs > MAX_LIFE_MS) throw refused("the certificate would live for more than 30 days");
  // By our clock it may begin in a moment: peers judge it by theirs.
  if (!chainsTo(chain, roots, Math.max(wallMs, notBeforeMs)))
    throw refused("the certificate does not chain to the trust anchors");
  return {
    generation: expected.generation,
    name,
    uri,
    serverName: name,
    keyPem: exportKey(key),
    certificatePem: chain.map((part) => derToPem(part.raw)).join(""),
    trustAnchorsPem: roots.map((root) => derToPem(root.raw)),
    notBeforeMs,
    notAfterMs,
  };
}

/**
 * Reads roots that came over an authenticated stream.
 * @returns PEM; undefined if there is none, too many, or one that cannot be read: the old ones stay.
 */
export function acceptAnchors(anchors: { readonly roots: readonly Uint8Array[] }): readonly string[] | undefined {
  if (anchors.roots.length === 0 || anchors.roots.length > MAX_ROOTS) return undefined;
  const roots = anchors.roots.map(parseDer);
  return roots.every((root) => root !== undefined) ? roots.map((root) => derToPem(root.raw)) : undefined;
}

function readAll(ders: readonly Uint8Array[], max: number, what: string): readonly X509Certificate[] {
  if (ders.length === 0 || ders.length > max) throw refused(`${what} has ${ders.length} certificates`);
  return ders.map((der) => {
    const certificate = parseDer(der);
    if (certificate === undefined) throw refused(`${what} cannot be read`);
    return certificate;
  });
}

function refused(why: string): BootstrapError {
  return new BootstrapError("answer-refused", `the enroller's answer was refused: ${why}`);
}
