import { type Cidr, cidrContains, type Ip, parseCidr, parseIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import type { EgressNetwork } from "./objects.ts";
import { KINDS } from "./store.ts";
import { byAge } from "./workload.ts";

/**
 * The EgressNetwork that rules an address for a client: one of the client's namespace before one of the global
 * namespace; then the most specific network, the oldest, the first by name.
 *
 * @param ip - Canonical text.
 */
export function egressNetworkFor(cluster: Cluster, client: string, ip: string): EgressNetwork | undefined {
  const address = parseIp(ip);
  if (address === undefined) return undefined;
  for (const namespace of new Set([client, cluster.globalEgressNamespace])) {
    let best: { readonly network: EgressNetwork; readonly prefix: number } | undefined;
    for (const network of cluster.store.list<EgressNetwork>(KINDS.egressNetworks, namespace).toSorted(byAge)) {
      const prefix = matchedPrefix(cluster, network, address);
      if (prefix !== undefined && (best === undefined || prefix > best.prefix)) best = { network, prefix };
    }
    if (best !== undefined) return best.network;
  }
  return undefined;
}

/** Length of the most specific network that holds the address; by default that is all the world but the cluster. */
function matchedPrefix(cluster: Cluster, { spec }: EgressNetwork, address: Ip): number | undefined {
  if (spec?.networks === undefined) {
    return cluster.clusterNetworks.some((network) => cidrContains(network, address)) ? undefined : 0;
  }
  const holds = (network: Cidr): boolean => cidrContains(network, address);
  const prefixes = spec.networks.flatMap(({ cidr, except = [] }) => {
    const network = parseCidr(cidr);
    if (network === undefined || !holds(network)) return [];
    const isExcepted = except.map(parseCidr).some((hole) => hole !== undefined && holds(hole));
    return isExcepted ? [] : [network.prefix];
  });
  return prefixes.length === 0 ? undefined : Math.max(...prefixes);
}
