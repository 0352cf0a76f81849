import type { KubeObject, ResourceType } from "./kubernetes.ts";

export const SECRETS: ResourceType = { group: "", version: "v1", plural: "secrets" };
export const CONFIG_MAPS: ResourceType = { group: "", version: "v1", plural: "configmaps" };
export const SERVICES: ResourceType = { group: "", version: "v1", plural: "services" };
export const SERVICE_ACCOUNTS: ResourceType = { group: "", version: "v1", plural: "serviceaccounts" };
export const ENDPOINT_SLICES: ResourceType = { group: "discovery.k8s.io", version: "v1", plural: "endpointslices" };
export const LEASES: ResourceType = { group: "coordination.k8s.io", version: "v1", plural: "leases" };
export const EXTERNAL_WORKLOADS: ResourceType = {
  group: "workload.linkerd.io",
  version: "v1beta1",
  plural: "externalworkloads",
};

export interface Secret extends KubeObject {
  readonly type?: string;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

export interface Service extends KubeObject {
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalName?: string;
    readonly externalTrafficPolicy?: string;
    readonly ports?: readonly {
      readonly name?: string;
      readonly port: number;
      readonly nodePort?: number;
      /** TCP unless said. */
      readonly protocol?: string;
    }[];
  };
  readonly status?: {
    readonly loadBalancer?: { readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[] };
  };
}

export interface EndpointSlice extends KubeObject {
  readonly addressType?: string;
  readonly endpoints?: readonly {
    readonly addresses?: readonly string[];
    readonly conditions?: { readonly ready?: boolean };
    readonly hostname?: string;
    readonly targetRef?: { readonly kind?: string; readonly namespace?: string; readonly name?: string };
  }[];
  readonly ports?: readonly { readonly name?: string; readonly port?: number; readonly protocol?: string }[];
}

export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
  };
}

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
  readonly lastProbeTime?: string;
}

/** `workload.linkerd.io/v1beta1`. Never v1alpha1, whose TLS field is spelled differently and would be lost. */
export interface ExternalWorkload extends KubeObject {
  readonly spec?: {
    readonly meshTLS: { readonly identity: string; readonly serverName: string };
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
    readonly workloadIPs?: readonly { readonly ip: string }[];
  };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** The one condition that means anything to Linkerd. */
export function readyCondition(workload: ExternalWorkload): Condition | undefined {
  return workload.status?.conditions?.find((condition) => condition.type === "Ready");
}

export function isReady(workload: ExternalWorkload): boolean {
  return readyCondition(workload)?.status === "True";
}
