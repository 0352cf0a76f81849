import type { WorkloadIdentity } from "../../proxy/core/identity.ts";
import { BootstrapError, EnrollerClient, enrollerName, type MeshNames, type WorkloadName } from "../control/index.ts";
import { acceptAnswer } from "./answer.ts";
import { certificationRequest } from "./csr.ts";
import { generateKey } from "./key.ts";

export interface RenewOptions {
  readonly identity: WorkloadIdentity;
  readonly workload: WorkloadName;
  readonly mesh: MeshNames;
  /** Tried in this order. */
  readonly enrollers: readonly string[];
  readonly version: string;
  /** SHA-256 of the machine id, hexadecimal. */
  readonly machine: string;
  readonly wallMs: () => number;
}

/**
 * Gets the next certificate, for a new key, by proving the present one.
 * @throws BootstrapError of the last address tried, or the first one that is final. The present identity stays.
 */
export async function renew(options: RenewOptions): Promise<WorkloadIdentity> {
  let failure: BootstrapError | undefined;
  for (const address of options.enrollers) {
    try {
      return await renewAt(address, options);
    } catch (error) {
      if (!(error instanceof BootstrapError)) throw error;
      failure = error;
      if (error.code === "revoked" || error.code === "clone" || error.code === "unknown-workload") break;
    }
  }
  throw failure ?? new BootstrapError("unreachable", "no address of an enroller is known");
}

async function renewAt(
  address: string,
  { identity, workload, mesh, version, machine, wallMs }: RenewOptions,
): Promise<WorkloadIdentity> {
  const client = new EnrollerClient(address, {
    serverName: enrollerName(mesh),
    trustAnchorsPem: () => identity.trustAnchorsPem,
    certificate: () => identity,
  });
  const key = generateKey();
  try {
    const { namespace, name } = workload;
    const answer = await client.renew({ version, csr: certificationRequest(key), namespace, name, machine });
    const generation = identity.generation + 1;
    return acceptAnswer(answer.certificate, answer.trustAnchors, { key, workload, mesh, wallMs: wallMs(), generation });
  } finally {
    client.close();
  }
}
