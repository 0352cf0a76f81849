import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Cluster, DEFAULT_OPAQUE_PORTS } from "../../src/lab/linkerd/cluster.ts";
import { outboundPolicy } from "../../src/lab/linkerd/outbound-policy.ts";
import { outbound } from "../../src/proto/index.ts";
import { parseCidr } from "../../src/proxy/core/address.ts";
import { decodeOutboundPolicy } from "../../src/proxy/discovery/outbound-policy.ts";
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

/** What the lab says of a target: the message, through the wire, and what the agent makes of it. */
export function askOutboundPolicy(cluster: Cluster, request: MessageInitShape<typeof outbound.TrafficSpecSchema>) {
  const spec = create(outbound.TrafficSpecSchema, request);
  const said = create(outbound.OutboundPolicySchema, outboundPolicy(cluster, spec));
  const message = fromBinary(outbound.OutboundPolicySchema, toBinary(outbound.OutboundPolicySchema, said));
  return { message, decoded: decodeOutboundPolicy(message) };
}
