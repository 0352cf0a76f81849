import type { KubeObject, ResourceType } from "../../bootstrap/enroller/kubernetes.ts";

/** One change in the cluster. */
export interface ClusterEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly resourceType: ResourceType;
  readonly object: KubeObject;
}

/**
 * The cluster as a controller sees it: everything it watches, already in memory. The lab's store is one; reads are
 * synchronous, and what they return never changes.
 */
export interface ClusterStore {
  /** Of one namespace, or of all. */
  list<T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[];
  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): T | undefined;
  /** Hears every change from now on, after it can be read. Returns the way to stop. */
  watch(listener: (event: ClusterEvent) => void): () => void;
}

/** The collections that Linkerd's controllers read. */
export const KINDS = {
  namespaces: { group: "", version: "v1", plural: "namespaces" },
  nodes: { group: "", version: "v1", plural: "nodes" },
  services: { group: "", version: "v1", plural: "services" },
  pods: { group: "", version: "v1", plural: "pods" },
  endpointSlices: { group: "discovery.k8s.io", version: "v1", plural: "endpointslices" },
  externalWorkloads: { group: "workload.linkerd.io", version: "v1beta1", plural: "externalworkloads" },
  servers: { group: "policy.linkerd.io", version: "v1beta3", plural: "servers" },
  authorizationPolicies: { group: "policy.linkerd.io", version: "v1alpha1", plural: "authorizationpolicies" },
  meshTlsAuthentications: { group: "policy.linkerd.io", version: "v1alpha1", plural: "meshtlsauthentications" },
  networkAuthentications: { group: "policy.linkerd.io", version: "v1alpha1", plural: "networkauthentications" },
  serverAuthorizations: { group: "policy.linkerd.io", version: "v1beta1", plural: "serverauthorizations" },
  rateLimits: { group: "policy.linkerd.io", version: "v1alpha1", plural: "httplocalratelimitpolicies" },
  egressNetworks: { group: "policy.linkerd.io", version: "v1alpha1", plural: "egressnetworks" },
  policyHttpRoutes: { group: "policy.linkerd.io", version: "v1beta3", plural: "httproutes" },
  httpRoutes: { group: "gateway.networking.k8s.io", version: "v1", plural: "httproutes" },
  grpcRoutes: { group: "gateway.networking.k8s.io", version: "v1", plural: "grpcroutes" },
  tlsRoutes: { group: "gateway.networking.k8s.io", version: "v1alpha2", plural: "tlsroutes" },
  tcpRoutes: { group: "gateway.networking.k8s.io", version: "v1alpha2", plural: "tcproutes" },
  serviceProfiles: { group: "linkerd.io", version: "v1alpha2", plural: "serviceprofiles" },
} as const satisfies Record<string, ResourceType>;
