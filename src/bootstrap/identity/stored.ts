import { X509Certificate } from "node:crypto";
import type { WorkloadIdentity } from "../../proxy/core/identity.ts";
import type { MeshConfiguration } from "../control/index.ts";
import { importKey, publicKeyDer } from "./key.ts";

/** Where state is kept; whoever owns the directory hands it in. Writes replace a file whole, or fail. */
export interface Store {
  /** undefined if there is no such file. */
  read(name: string): Buffer | undefined;
  /** `mode` such as 0o600. @throws if it cannot be written; the old content then stays. */
  write(name: string, data: Buffer | string, mode: number): void;
}

/** What a host knows of itself, from the first enrolment on. */
export interface StoredMembership {
  readonly identity: WorkloadIdentity;
  readonly configuration: MeshConfiguration;
  readonly enrollers: readonly string[];
}

const FILE = "membership.json";
const FORMAT = 1;

/** One file, so that key, certificate and configuration never disagree. Mode 0600: it holds the key. */
export function saveMembership(store: Store, membership: StoredMembership): void {
  store.write(FILE, JSON.stringify({ format: FORMAT, ...membership }), 0o600);
}

/**
 * Loads what was saved. Expiry is not judged: a host that was off for long still learns its name and mesh.
 * @returns undefined if there is nothing, it is of another format, or key and certificate do not belong together.
 */
export function loadMembership(store: Store): StoredMembership | undefined {
  const bytes = store.read(FILE);
  if (bytes === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString());
    if (typeof value !== "object" || value === null || !("format" in value) || value.format !== FORMAT)
      return undefined;
    // Our own writing, by the format's number; the part that could do harm is checked below.
    const { identity, configuration, enrollers } = value as StoredMembership & { format: number };
    const key = importKey(identity.keyPem);
    const leaf = new X509Certificate(identity.certificatePem);
    if (key === undefined || identity.trustAnchorsPem.length === 0 || !Array.isArray(enrollers)) return undefined;
    if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(publicKeyDer(key))) return undefined;
    if (typeof configuration.workload.name !== "string") return undefined;
    return { identity, configuration, enrollers };
  } catch {
    return undefined;
  }
}
