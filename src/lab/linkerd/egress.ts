import { type Cidr, cidrContains, type Ip, parseCidr, parseIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import type { EgressNetwork } from "./objects.ts";
import { KINDS } from "./store.ts";
import { byAge } from "./workload.ts";

/**
 * The EgressNetwork that rules an address for a client: the most specific network, then the oldest, then the first by
 * name. Those of the global namespace count only for clients whose own namespace has none at all.
 *
 * @param ip - Canonical text.
 */
export function egressNetworkFor(cluster: Cluster, client: string, ip: string): EgressNetwork | undefined {
  const address = parseIp(ip);
  if (address === undefined) return undefined;
  for (const namespace of new Set([client, cluster.globalEgressNamespace])) {
    let best: { readonly network: EgressNetwork; readonly prefix: number } | undefined;
    const networks = cluster.store.list<EgressNetwork>(KINDS.egressNetworks, namespace);
    for (const network of networks.toSorted(byAge)) {
      const prefix = matchedPrefix(cluster, network, address);
      if (prefix !== undefined && (best === undefined || prefix > best.prefix)) best = { network, prefix };
    }
    if (networks.length > 0) return best?.network;
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
