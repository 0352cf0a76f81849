import { createHash } from "node:crypto";
import {
  derToPem,
  identityName,
  identityUri,
  type MeshNames,
  realScheduler,
  silentLog,
  spkiFingerprint,
  type WorkloadName,
} from "../../src/bootstrap/control/index.ts";
import { applyWorkload } from "../../src/bootstrap/enroller/apply.ts";
import type { Issuer } from "../../src/bootstrap/enroller/issuer.ts";
import type { KubeClient } from "../../src/bootstrap/enroller/kubernetes.ts";
import { planRegistration, planWorkload, withCertificate } from "../../src/bootstrap/enroller/plan.ts";
import type { InvitationTerms } from "../../src/bootstrap/enroller/terms.ts";
import { AttachClient } from "../../src/bootstrap/host/index.ts";
import { exportKey, generateKey, publicKeyDer } from "../../src/bootstrap/identity/index.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";

export const VERSION = "0.1.0";
const LIFETIME_MS = 86_400_000;
export const NAMESPACE = "shop";

/** One simulated host. Plain data: it crosses processes. */
export interface Member {
  readonly workload: WorkloadName;
  readonly machine: string;
  readonly address: string;
  readonly identity: WorkloadIdentity;
}

/**
 * Registers hosts as if each had joined: an ExternalWorkload, and a certificate of its own. They share one key, for a
 * thousand keys prove nothing more, and one ServiceAccount, as a group does.
 */
export async function registerCrowd(
  client: KubeClient,
  issuer: Issuer,
  mesh: MeshNames,
  count: number,
): Promise<readonly Member[]> {
  const key = generateKey();
  const spki = publicKeyDer(key);
  const proven = { spki, fingerprint: spkiFingerprint(spki) };
  const terms: InvitationTerms = {
    format: 1,
    namespace: NAMESPACE,
    name: "crowd",
    serviceAccount: "crowd",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    opaquePorts: [],
    probes: [],
    labels: { app: "crowd" },
    from: [],
    uses: count,
    expiresAtMs: Date.now() + LIFETIME_MS,
  };
  const dns = identityName(terms.serviceAccount, NAMESPACE, mesh);
  const uri = identityUri(terms.serviceAccount, NAMESPACE, mesh);
  const members: Member[] = [];
  for (let i = 0; i < count; i++) {
    const machine = createHash("sha256").update(`host-${i}`).digest("hex");
    const wallMs = Date.now();
    const { chain, notAfterMs } = await issuer.issue(proven, { dns, uri }, LIFETIME_MS, wallMs);
    const registration = planRegistration(terms, "0123456789", machine, proven.fingerprint, true);
    const workload = planWorkload(withCertificate(registration, proven.fingerprint, notAfterMs), [], mesh);
    await applyWorkload(client, workload, undefined);
    members.push({
      workload: registration.workload,
      machine,
      // RFC 2544: networks for tests of this kind.
      address: `198.19.${i >> 8}.${i & 255}`,
      identity: {
        generation: 1,
        name: dns,
        uri,
        serverName: dns,
        keyPem: exportKey(key),
        certificatePem: chain.map(derToPem).join(""),
        trustAnchorsPem: issuer.trustAnchorsPem,
        notBeforeMs: wallMs,
        notAfterMs,
      },
    });
  }
  return members;
}

/** Simulated hosts: the agent's own attach client each, over a connection of its own, and nothing else of the agent. */
export class Crowd {
  readonly #clients: AttachClient[];
  readonly #failures = new Map<string, number>();

  /** @param enrollers - Tried in this order. */
  constructor(members: readonly Member[], mesh: MeshNames, enrollers: readonly string[]) {
    this.#clients = members.map(({ workload, machine, address, identity }) => {
      const client = new AttachClient({
        workload,
        mesh,
        enrollers,
        identity: { current: () => identity, subscribe: () => () => {} },
        machine,
        hostname: workload.name,
        version: VERSION,
        scheduler: realScheduler,
        log: silentLog,
        addresses: () => [address],
        handlers: {
          state: (state) => {
            if (state.kind !== "detached") return;
            const why = (state.error?.message ?? "the stream ended").replace(/\d+/g, "N");
            this.#failures.set(why, (this.#failures.get(why) ?? 0) + 1);
          },
        },
      });
      client.setReadiness({ ready: true, reason: "", message: "" });
      return client;
    });
  }

  /** Attaches everybody, so many a second. */
  async start(perSecond: number): Promise<void> {
    const began = performance.now();
    for (const [i, client] of this.#clients.entries()) {
      client.start();
      const aheadMs = ((i + 1) * 1000) / perSecond - (performance.now() - began);
      if (aheadMs > 5) await new Promise((resolve) => setTimeout(resolve, aheadMs));
    }
  }

  /** How many are attached to an enroller, by its address. */
  attached(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { state } of this.#clients)
      if (state.kind === "attached") counts[state.enroller] = (counts[state.enroller] ?? 0) + 1;
    return counts;
  }

  /** Why hosts were not attached, and how often. */
  failures(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#failures);
  }

  stop(): void {
    for (const client of this.#clients) client.stop();
  }
}
