/**
 * Linkerd's control plane for the lab: identity, destination and policy over gRPC, behind mesh TLS, answering from a
 * Kubernetes-shaped store as the real controllers would, known accidents included. It proves the agent against what
 * it will meet; it is not a control plane for production.
 *
 * `start.ts` puts it together. Each service is a thin file (`identity.ts`, `destination.ts`, `policy.ts`) over pure
 * translations of objects into messages: `endpoint-set.ts` and `profile.ts` say where names lead, `inbound-policy.ts`
 * and `outbound-policy.ts` what is allowed and how it is routed. `mesh-listener.ts` is the TLS in front. May import
 * everything below the lab.
 */
export { DEFAULT_OPAQUE_PORTS, DEFAULT_POLICIES, type DefaultPolicy } from "./cluster.ts";
export type { TokenReview } from "./identity.ts";
export {
  DEFAULT_CLUSTER_NETWORKS,
  type Linkerd,
  type LinkerdOptions,
  type LinkerdPki,
  type Role,
  startLinkerd,
} from "./start.ts";
export { type ClusterEvent, type ClusterStore, KINDS } from "./store.ts";
