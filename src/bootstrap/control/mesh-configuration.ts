import type { WorkloadName } from "./names.ts";

/** A port that the workload serves. */
export interface WorkloadPort {
  readonly name: string;
  /** 1–65535. */
  readonly port: number;
  readonly protocol: "TCP";
}

export type ProbeKind =
  | { readonly kind: "http"; readonly port: number; readonly path: string }
  | { readonly kind: "tcp"; readonly port: number }
  | { readonly kind: "grpc"; readonly port: number; readonly service: string }
  | { readonly kind: "exec"; readonly command: readonly string[] };

/** A check that the host makes of its own application; fields and defaults as in a Kubernetes readiness probe. */
export interface Probe {
  readonly check: ProbeKind;
  readonly periodMs: number;
  readonly timeoutMs: number;
  readonly successThreshold: number;
  readonly failureThreshold: number;
  readonly initialDelayMs: number;
}

export const PROBE_DEFAULTS = {
  periodMs: 10_000,
  timeoutMs: 1000,
  successThreshold: 1,
  failureThreshold: 3,
  initialDelayMs: 0,
} as const satisfies Omit<Probe, "check">;

/** Where a service of the control plane is, and who it proves to be. */
export interface ControlPlaneService {
  /** `ip:port` of every ready pod; may be empty while none is ready. */
  readonly addresses: readonly string[];
  readonly tlsName: string;
}

/** Everything a host needs to know about its mesh and itself. Plain data: it is stored, and crosses threads. */
export interface MeshConfiguration {
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly controlPlaneNamespace: string;
  /** Linkerd's `clusterNetworks`, CIDRs: what counts as inside for profiles and policies. Never what is captured. */
  readonly clusterNetworks: readonly string[];
  /** CIDRs whose traffic outbound interception captures. */
  readonly captureNetworks: readonly string[];
  readonly destination: ControlPlaneService;
  readonly policy: ControlPlaneService;
  readonly workload: WorkloadName;
  readonly ports: readonly WorkloadPort[];
  readonly probes: readonly Probe[];
  readonly opaquePorts: readonly number[];
  /** Rules until the policy controller has answered for a port, such as `all-authenticated`. */
  readonly defaultInboundPolicy: string;
  /** JSON text `{"ns":"NS","external_workload":"EW"}`; the first byte must be `{`. */
  readonly policyToken: string;
  readonly contextToken: string;
}

/** The token by which the policy and destination controllers know a workload. */
export function workloadToken(namespace: string, name: string): string {
  return JSON.stringify({ ns: namespace, external_workload: name });
}
