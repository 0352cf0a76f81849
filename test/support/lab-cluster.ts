import { type Cluster, DEFAULT_OPAQUE_PORTS } from "../../src/lab/linkerd/cluster.ts";
import { parseCidr } from "../../src/proxy/core/address.ts";
import { MemoryCluster } from "./memory-cluster.ts";

/** A control plane with the chart's settings, over an empty cluster. */
export function labCluster(overrides: Partial<Cluster> = {}): Cluster & { readonly store: MemoryCluster } {
  return {
    clusterDomain: "cluster.local",
    trustDomain: "cluster.local",
    controlPlaneNamespace: "linkerd",
    clusterNetworks: [parseCidr("10.0.0.0/8"), parseCidr("fd00::/8")].filter((cidr) => cidr !== undefined),
    defaultInboundPolicy: "all-unauthenticated",
    defaultOpaquePorts: DEFAULT_OPAQUE_PORTS,
    transportHeader: true,
    globalEgressNamespace: "linkerd-egress",
    ...overrides,
    store: new MemoryCluster(),
  };
}
