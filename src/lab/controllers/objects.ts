import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";

/** The parts of the kinds that endpoints are made from. */
export interface Service extends KubeObject {
  readonly spec: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly selector?: Readonly<Record<string, string>>;
    readonly ipFamilies?: readonly ("IPv4" | "IPv6")[];
    readonly publishNotReadyAddresses?: boolean;
    readonly ports?: readonly ServicePort[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: string;
  /** Of the workload: a number, or a name in its ports. */
  readonly targetPort?: number | string;
}

export interface Condition {
  readonly type: string;
  readonly status: string;
}

export interface ExternalWorkload extends KubeObject {
  readonly spec: {
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
    readonly workloadIPs?: readonly { readonly ip?: string }[];
  };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface Pod extends KubeObject {
  readonly spec: {
    readonly nodeName?: string;
    readonly hostname?: string;
    readonly subdomain?: string;
    readonly containers?: readonly {
      readonly ports?: readonly {
        readonly name?: string;
        readonly containerPort: number;
        readonly protocol?: string;
      }[];
    }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly Condition[];
  };
}

export interface EndpointPort {
  readonly name?: string;
  readonly port: number;
  readonly protocol: string;
}

export interface Endpoint {
  readonly addresses: readonly string[];
  readonly conditions: { readonly ready: boolean; readonly serving: boolean; readonly terminating: boolean };
  readonly targetRef: {
    readonly kind: string;
    readonly namespace: string;
    readonly name: string;
    readonly uid: string;
  };
  readonly zone?: string;
  readonly hostname?: string;
  readonly nodeName?: string;
}

export interface EndpointSlice extends KubeObject {
  readonly addressType: "IPv4" | "IPv6";
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

/** Whether a workload says of itself that it is ready: exactly `type: Ready, status: "True"`, everything else is no. */
export function isReady(object: { readonly status?: { readonly conditions?: readonly Condition[] } }): boolean {
  return object.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

/** Whether a Service's selector takes a workload: all its labels, and at least one. */
export function selects(service: Service, workload: KubeObject): boolean {
  const wanted = Object.entries(service.spec.selector ?? {});
  const labels = workload.metadata.labels ?? {};
  return wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value);
}

/** Address families that a Service wants endpoints of; some headless ones do not say, and get both. */
export function familiesOf(service: Service): readonly ("IPv4" | "IPv6")[] {
  const families = service.spec.ipFamilies ?? [];
  return families.length === 0 ? ["IPv4", "IPv6"] : families;
}

export function isHeadless(service: Service): boolean {
  return service.spec.clusterIP === "None";
}
