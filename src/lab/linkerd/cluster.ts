import type { Cidr } from "../../proxy/core/address.ts";
import type { ClusterStore } from "./store.ts";

/** The default inbound policies, as the annotation and the chart spell them. */
export const DEFAULT_POLICIES = [
  "all-unauthenticated",
  "all-authenticated",
  "cluster-unauthenticated",
  "cluster-authenticated",
  "audit",
  "deny",
] as const;

export type DefaultPolicy = (typeof DEFAULT_POLICIES)[number];

/** @returns undefined if the text is no default policy. */
export function defaultPolicy(text: string | undefined): DefaultPolicy | undefined {
  return DEFAULT_POLICIES.find((policy) => policy === text);
}

/** The chart's `proxy.opaquePorts`: protocols where the server speaks first. */
export const DEFAULT_OPAQUE_PORTS = "25,587,3306,4444,5432,6379,9300,11211";

/** The control plane's configuration, and the cluster it reads. */
export interface Cluster {
  readonly store: ClusterStore;
  /** Such as `cluster.local`. */
  readonly clusterDomain: string;
  /** Last part of the DNS-like identities. */
  readonly trustDomain: string;
  /** Such as `linkerd`. */
  readonly controlPlaneNamespace: string;
  /** Where policy counts an address as in the cluster. */
  readonly clusterNetworks: readonly Cidr[];
  /** The chart's `proxy.defaultInboundPolicy`. */
  readonly defaultInboundPolicy: DefaultPolicy;
  /** List of ports and ranges; {@link DEFAULT_OPAQUE_PORTS} in a stock installation. */
  readonly defaultOpaquePorts: string;
  /** Whether clients reach meshed endpoints through their proxy port: `proxy.outboundTransportMode: transport-header`. */
  readonly transportHeader: boolean;
  /** Namespace whose EgressNetworks count for everybody. */
  readonly globalEgressNamespace: string;
}

/** `SA.NS.serviceaccount.identity.L5D.TD`: what Linkerd calls a ServiceAccount. */
export function serviceAccountIdentity(cluster: Cluster, namespace: string, account: string): string {
  return `${account}.${namespace}.serviceaccount.identity.${cluster.controlPlaneNamespace}.${cluster.trustDomain}`;
}
