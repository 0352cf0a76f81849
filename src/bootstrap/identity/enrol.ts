import type { KeyObject } from "node:crypto";
import type { WorkloadIdentity } from "../../proxy/core/identity.ts";
import {
  BootstrapError,
  burn,
  compatible,
  decodeConfiguration,
  EnrollerClient,
  enrollerName,
  type JoinString,
  type MeshConfiguration,
} from "../control/index.ts";
import { acceptAnswer } from "./answer.ts";
import { certificationRequest } from "./csr.ts";
import { findPinnedRoot } from "./first-contact.ts";
import { generateKey } from "./key.ts";

export interface EnrolOptions {
  /** Its secret is overwritten once it has been spent or refused for good. */
  readonly join: JoinString;
  /** SHA-256 of the machine id, hexadecimal. */
  readonly machine: string;
  readonly hostname: string;
  readonly version: string;
  /** Wall clock, Unix milliseconds. */
  readonly wallMs: () => number;
  /** A key from an attempt whose answer got lost: with it, the repetition costs no use. */
  readonly key?: KeyObject;
}

export interface Enrolment {
  readonly identity: WorkloadIdentity;
  readonly configuration: MeshConfiguration;
  /** In the order to try; the one that answered comes first. */
  readonly enrollers: readonly string[];
  /** Enroller's clock minus ours, milliseconds. */
  readonly skewMs: number;
}

/**
 * Joins the mesh: finds the pinned root at one of the addresses, opens a channel that trusts that root alone and
 * expects the enroller's name, and only then sends the secret. Leaves no trace if it fails.
 *
 * @throws BootstrapError of the last address tried, or the first one that is final.
 */
export async function enrol(options: EnrolOptions): Promise<Enrolment> {
  const { join } = options;
  const key = options.key ?? generateKey();
  let failure: BootstrapError | undefined;
  for (const address of join.enrollers) {
    try {
      const enrolment = await enrolAt(address, key, options);
      burn(join);
      return { ...enrolment, enrollers: [address, ...join.enrollers.filter((other) => other !== address)] };
    } catch (error) {
      if (!(error instanceof BootstrapError)) throw error;
      failure = error;
      // Another address leads to the same enroller, or to none: only where nobody answered is it worth a try.
      if (error.code !== "unreachable" && error.code !== "pin-mismatch" && error.code !== "enroller-name") break;
    }
  }
  const final = failure ?? new BootstrapError("join-string-malformed", "the join string names no enroller");
  if (final.code.startsWith("invitation-") && final.code !== "invitation-network") burn(join);
  throw final;
}

async function enrolAt(
  address: string,
  key: KeyObject,
  { join, machine, hostname, version, wallMs }: EnrolOptions,
): Promise<Omit<Enrolment, "enrollers">> {
  const root = await findPinnedRoot(address, join, wallMs());
  const anchors = [root];
  const client = new EnrollerClient(address, { serverName: enrollerName(join), trustAnchorsPem: () => anchors });
  try {
    const asked = wallMs();
    const ask = () =>
      client.enroll({
        version,
        invitationId: join.invitationId,
        secret: join.secret,
        csr: certificationRequest(key),
        host: { $typeName: "meshagent.enroll.v1.HostFacts", machine, hostname, wallMs: BigInt(asked) },
      });
    // The address has just answered: what is lost now may be the answer to a use already spent, and the same key
    // gets the same answer again.
    const answer = await ask().catch((error: unknown) => {
      if (error instanceof BootstrapError && error.code === "unreachable") return ask();
      throw error;
    });
    if (!compatible(version, answer.version)) {
      throw new BootstrapError("version-skew", `agent ${version} and enroller ${answer.version} do not fit together`);
    }
    const configuration = answer.configuration && decodeConfiguration(answer.configuration);
    if (configuration === undefined) {
      throw new BootstrapError("answer-refused", "the enroller's mesh configuration cannot be read");
    }
    // The join string said which mesh this is; the answer must not lead into another.
    if (
      configuration.trustDomain !== join.trustDomain ||
      configuration.controlPlaneNamespace !== join.controlPlaneNamespace
    ) {
      throw new BootstrapError("answer-refused", "the enroller's answer is for another mesh than the join string");
    }
    const expected = { key, workload: configuration.workload, mesh: join, wallMs: wallMs(), generation: 1 };
    const identity = acceptAnswer(answer.certificate, answer.trustAnchors, expected);
    return { identity, configuration, skewMs: Number(answer.wallMs) - (asked + wallMs()) / 2 };
  } finally {
    client.close();
  }
}
