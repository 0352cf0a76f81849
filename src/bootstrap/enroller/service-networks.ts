import { formatCidr, parseCidr } from "../../proxy/core/address.ts";
import { type KubeClient, KubeError, type KubeObject, type ResourceType } from "./kubernetes.ts";

const SERVICE_CIDRS: ResourceType = { group: "networking.k8s.io", version: "v1", plural: "servicecidrs" };

interface ServiceCidr extends KubeObject {
  readonly spec?: { readonly cidrs?: readonly string[] };
}

/**
 * The networks of ClusterIPs, where the API publishes them (Kubernetes 1.33 and later).
 * @returns empty if it does not. Never Linkerd's `clusterNetworks`: those are all of private space.
 */
export async function serviceNetworks(client: KubeClient): Promise<readonly string[]> {
  try {
    const objects = await client.list<ServiceCidr>(SERVICE_CIDRS, undefined);
    const networks = objects.flatMap(({ spec }) => spec?.cidrs ?? []).map(parseCidr);
    return [...new Set(networks.filter((cidr) => cidr !== undefined).map(formatCidr))].sort();
  } catch (error) {
    if (error instanceof KubeError) return [];
    throw error;
  }
}
