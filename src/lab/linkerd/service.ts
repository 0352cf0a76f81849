import { canonicalIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import { failedPrecondition } from "./failure.ts";
import type { Service } from "./objects.ts";
import { KINDS } from "./store.ts";

/**
 * The Service that has an address as ClusterIP.
 *
 * @param ip - Canonical text.
 * @throws CallFailure FailedPrecondition if there are several.
 */
export function serviceByIp(cluster: Cluster, ip: string): Service | undefined {
  const found = cluster.store.list<Service>(KINDS.services).filter(({ spec }) => {
    if (spec?.type === "ExternalName") return false;
    // "None" and "" are not addresses.
    return [spec?.clusterIP, ...(spec?.clusterIPs ?? [])].some((text) => canonicalIp(text ?? "") === ip);
  });
  if (found.length > 1) throw failedPrecondition(`ClusterIP ${ip} is claimed by ${found.length} services`);
  return found[0];
}
