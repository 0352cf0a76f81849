import { INVITATION_LABEL } from "./invitation.ts";
import type { KubeClient, ResourceType } from "./kubernetes.ts";
import { HOST_LEASE_LABEL } from "./lease.ts";
import { MANAGED } from "./plan.ts";
import { EXTERNAL_WORKLOADS, LEASES, SECRETS } from "./resources.ts";

/** One object that `cluster install` wrote. */
export interface InstalledObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const PLURALS: Readonly<Record<string, string>> = { NetworkPolicy: "networkpolicies" };

/**
 * Takes back what `cluster install` wrote, then invitations and leases.
 * @param installed - The documents of the installation.
 * @returns hosts whose ExternalWorkloads are left: deleting a Ready one would crash Linkerd's destination controller.
 */
export async function uninstall(
  client: KubeClient,
  enrollerNamespace: string,
  installed: readonly InstalledObject[],
): Promise<readonly string[]> {
  // In reverse: the enroller goes before its rights, so that it never complains about missing ones.
  for (const { apiVersion, kind, metadata } of [...installed].reverse()) {
    await client.delete(typeOf(apiVersion, kind), metadata.namespace, metadata.name);
  }
  for (const [type, label] of [
    [SECRETS, `${INVITATION_LABEL}=true`],
    [LEASES, `${HOST_LEASE_LABEL}=true`],
  ] as const) {
    for (const { metadata } of await client.list(type, enrollerNamespace, label)) {
      await client.delete(type, enrollerNamespace, metadata.name);
    }
  }
  const hosts = await client.list(EXTERNAL_WORKLOADS, undefined, `${MANAGED}=true`);
  return hosts.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
}

function typeOf(apiVersion: string, kind: string): ResourceType {
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  return { group: group ?? "", version: version ?? "", plural: PLURALS[kind] ?? `${kind.toLowerCase()}s` };
}
