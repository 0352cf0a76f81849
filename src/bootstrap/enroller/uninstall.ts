import { GROUPS } from "./group.ts";
import { installObjects } from "./install.ts";
import { INVITATION_LABEL } from "./invitation.ts";
import { type KubeClient, KubeError, type KubeObject, type ResourceType } from "./kubernetes.ts";
import { GROUPS_LEASE } from "./leader.ts";
import { HOST_LEASE_LABEL } from "./lease.ts";
import { MANAGED } from "./plan.ts";
import { EXTERNAL_WORKLOADS, LEASES, SECRETS } from "./resources.ts";

const PLURALS: Readonly<Record<string, string>> = {
  NetworkPolicy: "networkpolicies",
  ValidatingAdmissionPolicy: "validatingadmissionpolicies",
};

/** Hosts whose ExternalWorkloads an enroller keeps, as `NAMESPACE/NAME`. */
export async function registeredHosts(client: KubeClient): Promise<readonly string[]> {
  const hosts = await client.list(EXTERNAL_WORKLOADS, undefined, `${MANAGED}=true`);
  return hosts.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
}

/**
 * Takes back what `cluster install` wrote, with all options: the enroller, its rights, admission, groups; then invitations
 * and leases. ExternalWorkloads stay: deleting a Ready one would crash Linkerd's destination controller.
 * @returns what was there and is gone, as `Kind [NAMESPACE/]NAME`.
 */
export async function uninstall(client: KubeClient, enrollerNamespace: string): Promise<readonly string[]> {
  const everything = installObjects({
    namespace: enrollerNamespace,
    image: "",
    capture: [],
    replicas: 1,
    serviceType: "ClusterIP",
    issuerSecret: "",
    lifetime: "",
    metricsPort: true,
  });
  const deleted: string[] = [];
  const remove = async (type: ResourceType, { kind, metadata }: Pick<KubeObject, "kind" | "metadata">) => {
    const { namespace, name } = metadata;
    if ((await known(() => client.get(type, namespace, name))) === undefined) return;
    await client.delete(type, namespace, name);
    deleted.push(`${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`);
  };
  // In reverse: the enroller goes before its rights, so that it never complains about missing ones. The definition goes
  // last and takes the groups along; they are named, for whoever kept them nowhere else.
  for (const group of (await known(() => client.list(GROUPS, undefined))) ?? []) {
    deleted.push(`ExternalWorkloadGroup ${group.metadata.namespace}/${group.metadata.name}`);
  }
  for (const object of [...everything].reverse()) await remove(collectionOf(object), object);
  for (const [type, label] of [
    [SECRETS, `${INVITATION_LABEL}=true`],
    [LEASES, `${HOST_LEASE_LABEL}=true`],
  ] as const) {
    for (const object of await client.list(type, enrollerNamespace, label)) await remove(type, object);
  }
  await remove(LEASES, { kind: "Lease", metadata: { name: GROUPS_LEASE, namespace: enrollerNamespace } });
  return deleted;
}

/** A kind that the API does not know has no objects. */
async function known<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return undefined;
    throw error;
  }
}

/** The collection of an object that `cluster install` prints. */
export function collectionOf({ apiVersion, kind }: Pick<KubeObject, "apiVersion" | "kind">): ResourceType {
  const [group = "", version = ""] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  return { group, version, plural: PLURALS[kind] ?? `${kind.toLowerCase()}s` };
}
