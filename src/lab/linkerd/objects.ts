import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";

// The fields that Linkerd's controllers read, and no others. Everything below `metadata` comes from a user with
// kubectl: what a schema does not force is optional here.

export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    readonly values?: readonly string[];
  }[];
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly targetPort?: number | string;
  readonly protocol?: string;
  readonly appProtocol?: string;
}

export interface Service extends KubeObject {
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalName?: string;
    readonly internalTrafficPolicy?: string;
    readonly ports?: readonly ServicePort[];
  };
}

export interface ObjectRef {
  readonly kind?: string;
  readonly namespace?: string;
  readonly name?: string;
}

export interface EndpointSlice extends KubeObject {
  readonly addressType?: string;
  readonly ports?: readonly { readonly name?: string; readonly port?: number; readonly protocol?: string }[];
  readonly endpoints?: readonly {
    readonly addresses?: readonly string[];
    readonly hostname?: string;
    readonly conditions?: { readonly ready?: boolean };
    readonly targetRef?: ObjectRef;
    readonly zone?: string;
    readonly nodeName?: string;
  }[];
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  readonly hostPort?: number;
  readonly protocol?: string;
}

export interface HttpGetProbe {
  readonly httpGet?: { readonly path?: string; readonly port: number | string };
}

export interface Container {
  readonly name: string;
  readonly ports?: readonly ContainerPort[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly livenessProbe?: HttpGetProbe;
  readonly readinessProbe?: HttpGetProbe;
  readonly startupProbe?: HttpGetProbe;
}

export interface Pod extends KubeObject {
  readonly spec?: {
    readonly serviceAccountName?: string;
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly containers?: readonly Container[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip?: string }[];
    readonly hostIP?: string;
  };
}

export interface ExternalWorkload extends KubeObject {
  readonly spec?: {
    readonly meshTLS?: { readonly identity: string; readonly serverName: string };
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
    readonly workloadIPs?: readonly { readonly ip?: string }[];
  };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export interface Server extends KubeObject {
  readonly spec?: {
    readonly podSelector?: Selector;
    readonly externalWorkloadSelector?: Selector;
    readonly port?: number | string;
    readonly proxyProtocol?: string;
    readonly accessPolicy?: string;
  };
}

export interface TargetRef {
  readonly group?: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}

export interface AuthorizationPolicy extends KubeObject {
  readonly spec?: { readonly targetRef?: TargetRef; readonly requiredAuthenticationRefs?: readonly TargetRef[] };
}

export interface MeshTlsAuthentication extends KubeObject {
  readonly spec?: { readonly identities?: readonly string[]; readonly identityRefs?: readonly TargetRef[] };
}

export interface CidrItem {
  readonly cidr: string;
  readonly except?: readonly string[];
}

export interface NetworkAuthentication extends KubeObject {
  readonly spec?: { readonly networks?: readonly CidrItem[] };
}

export interface ServerAuthorization extends KubeObject {
  readonly spec?: {
    readonly server?: { readonly name?: string; readonly selector?: Selector };
    readonly client?: {
      readonly networks?: readonly CidrItem[];
      readonly unauthenticated?: boolean;
      readonly meshTLS?: {
        readonly unauthenticatedTLS?: boolean;
        readonly identities?: readonly string[];
        readonly serviceAccounts?: readonly { readonly name: string; readonly namespace?: string }[];
      };
    };
  };
}

export interface RateLimitPolicy extends KubeObject {
  readonly spec?: {
    readonly targetRef?: TargetRef;
    readonly total?: { readonly requestsPerSecond?: number };
    readonly identity?: { readonly requestsPerSecond?: number };
    readonly overrides?: readonly {
      readonly requestsPerSecond?: number;
      readonly clientRefs?: readonly TargetRef[];
    }[];
  };
}

export interface EgressNetwork extends KubeObject {
  readonly spec?: { readonly networks?: readonly CidrItem[]; readonly trafficPolicy?: string };
}

export interface ParentRef {
  readonly group?: string;
  readonly kind?: string;
  readonly name: string;
  readonly namespace?: string;
  readonly port?: number;
}

export interface BackendRef {
  readonly group?: string;
  readonly kind?: string;
  readonly name: string;
  readonly namespace?: string;
  readonly port?: number;
  readonly weight?: number;
  readonly filters?: readonly RouteFilter[];
}

export interface HeaderModifier {
  readonly add?: readonly { readonly name: string; readonly value: string }[];
  readonly set?: readonly { readonly name: string; readonly value: string }[];
  readonly remove?: readonly string[];
}

export interface RouteFilter {
  readonly type: string;
  readonly requestHeaderModifier?: HeaderModifier;
  readonly responseHeaderModifier?: HeaderModifier;
  readonly requestRedirect?: {
    readonly scheme?: string;
    readonly hostname?: string;
    readonly port?: number;
    readonly statusCode?: number;
    readonly path?: { readonly type: string; readonly replaceFullPath?: string; readonly replacePrefixMatch?: string };
  };
}

export interface ValueMatch {
  readonly type?: string;
  readonly name: string;
  readonly value: string;
}

export interface HttpMatch {
  readonly path?: { readonly type?: string; readonly value?: string };
  readonly headers?: readonly ValueMatch[];
  readonly queryParams?: readonly ValueMatch[];
  readonly method?: string;
}

export interface GrpcMatch {
  readonly method?: { readonly type?: string; readonly service?: string; readonly method?: string };
  readonly headers?: readonly ValueMatch[];
}

export interface RouteRule<Match> {
  readonly matches?: readonly Match[];
  readonly filters?: readonly RouteFilter[];
  readonly backendRefs?: readonly BackendRef[];
  readonly timeouts?: { readonly request?: string; readonly backendRequest?: string };
}

export interface RouteObject<Match = unknown> extends KubeObject {
  readonly spec?: {
    readonly parentRefs?: readonly ParentRef[];
    readonly hostnames?: readonly string[];
    readonly rules?: readonly RouteRule<Match>[];
  };
  readonly status?: {
    readonly parents?: readonly {
      readonly parentRef: ParentRef;
      readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    }[];
  };
}

export type HttpRouteObject = RouteObject<HttpMatch>;
export type GrpcRouteObject = RouteObject<GrpcMatch>;

export interface ProfileRequestMatch {
  readonly all?: readonly ProfileRequestMatch[];
  readonly any?: readonly ProfileRequestMatch[];
  readonly not?: ProfileRequestMatch;
  readonly pathRegex?: string;
  readonly method?: string;
}

export interface ProfileResponseMatch {
  readonly all?: readonly ProfileResponseMatch[];
  readonly any?: readonly ProfileResponseMatch[];
  readonly not?: ProfileResponseMatch;
  readonly status?: { readonly min?: number; readonly max?: number };
}

export interface ServiceProfile extends KubeObject {
  readonly spec?: {
    readonly routes?: readonly {
      readonly name?: string;
      readonly condition?: ProfileRequestMatch;
      readonly responseClasses?: readonly {
        readonly condition?: ProfileResponseMatch;
        readonly isFailure?: boolean;
      }[];
      readonly isRetryable?: boolean;
      readonly timeout?: string;
    }[];
    readonly retryBudget?: {
      readonly retryRatio?: number;
      readonly minRetriesPerSecond?: number;
      readonly ttl?: string;
    };
    readonly dstOverrides?: readonly { readonly authority: string; readonly weight?: number | string }[];
  };
}
