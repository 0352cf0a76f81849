import type { inbound } from "../../proto/index.ts";
import {
  type AuthzMessage,
  defaultAuthorizations,
  policyAuthorizations,
  serverAuthorizations,
} from "./authorizations.ts";
import { type Cluster, type DefaultPolicy, defaultPolicy, serviceAccountIdentity } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import { invalidArgument, notFound } from "./failure.ts";
import { grpcMatchMessage, hostMessage, httpMatchMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import { defaultMetadata, objectMetadata } from "./metadata.ts";
import { allNetworks, networkMessage } from "./net.ts";
import type {
  Container,
  ExternalWorkload,
  GrpcRouteObject,
  HttpRouteObject,
  Pod,
  RateLimitPolicy,
  RouteObject,
  Server,
} from "./objects.ts";
import { includesPort, parseStrictPorts } from "./ports.ts";
import { filterKinds } from "./route-filter.ts";
import { KINDS } from "./store.ts";
import { byAge, declaredPorts, serverOf, type Workload } from "./workload.ts";
import type { WorkloadToken } from "./workload-token.ts";

export type ServerMessage = Init<typeof inbound.ServerSchema>;
type ProtocolMessage = Init<typeof inbound.ProxyProtocolSchema>;
type HttpRouteMessage = Init<typeof inbound.HttpRouteSchema>;
type GrpcRouteMessage = Init<typeof inbound.GrpcRouteSchema>;
type RateLimitMessage = Init<typeof inbound.HttpLocalRateLimitSchema>;

/** How long a proxy waits for the first bytes of a connection. */
const DETECT_TIMEOUT_MS = 10_000;

/**
 * What the proxy of a workload has to know about one of its ports.
 *
 * @throws CallFailure InvalidArgument for a port that is none; NotFound for a workload that does not exist.
 */
export function inboundPolicy(cluster: Cluster, token: WorkloadToken, port: number): ServerMessage {
  if (port < 1 || port > 65535) throw invalidArgument(`invalid port: ${port}`);
  const workload = findWorkload(cluster, token);
  if (workload === undefined) throw notFound("unknown server");
  const server = serverOf(cluster, workload, port);
  return server === undefined
    ? defaultServer(cluster, workload, port)
    : explicitServer(cluster, workload, server, port);
}

function findWorkload(cluster: Cluster, { kind, namespace, name }: WorkloadToken): Workload | undefined {
  if (kind === "pod") {
    const object = cluster.store.get<Pod>(KINDS.pods, namespace, name);
    return object && { kind, object };
  }
  const object = cluster.store.get<ExternalWorkload>(KINDS.externalWorkloads, namespace, name);
  return object !== undefined && isDecodable(object) ? { kind, object } : undefined;
}

/** What the policy controller cannot decode does not exist for it: a status without conditions, an address without IP. */
function isDecodable({ spec, status }: ExternalWorkload): boolean {
  if (spec?.meshTLS === undefined) return false;
  if (status !== undefined && status.conditions === undefined) return false;
  return spec.workloadIPs?.every(({ ip }) => ip !== undefined) ?? true;
}

function defaultServer(cluster: Cluster, workload: Workload, port: number): ServerMessage {
  const { annotations = {} } = workload.object.metadata;
  const policy = effectivePolicy(cluster, annotations, port);
  // Linkerd's destination controller falls back to the cluster's list here, the policy controller to none.
  const opaque = parseStrictPorts(annotations["config.linkerd.io/opaque-ports"] ?? "");
  const protocol: ProtocolMessage = includesPort(opaque, port)
    ? { kind: { case: "opaque", value: {} } }
    : detect(defaultRoutes(workload, port), undefined);
  return {
    protocol,
    authorizations: [...defaultAuthorizations(cluster, policy)],
    labels: { group: "", kind: "default", name: policy },
  };
}

function effectivePolicy(cluster: Cluster, annotations: Readonly<Record<string, string>>, port: number): DefaultPolicy {
  const policy = defaultPolicy(annotations["config.linkerd.io/default-inbound-policy"]) ?? cluster.defaultInboundPolicy;
  const required = parseStrictPorts(annotations["config.linkerd.io/proxy-require-identity-inbound-ports"] ?? "");
  if (!includesPort(required, port)) return policy;
  switch (policy) {
    case "all-unauthenticated":
    case "audit":
      return "all-authenticated";
    case "cluster-unauthenticated":
      return "cluster-authenticated";
    default:
      return policy;
  }
}

function explicitServer(cluster: Cluster, workload: Workload, server: Server, port: number): ServerMessage {
  const accessPolicy = defaultPolicy(server.spec?.accessPolicy) ?? "deny";
  return {
    protocol: serverProtocol(cluster, workload, server, port),
    authorizations: [...serverAuthorizations(cluster, server), ...defaultAuthorizations(cluster, accessPolicy)],
    labels: { group: "policy.linkerd.io", kind: "server", name: server.metadata.name },
  };
}

function serverProtocol(cluster: Cluster, workload: Workload, server: Server, port: number): ProtocolMessage {
  const protocol = server.spec?.proxyProtocol ?? "unknown";
  switch (protocol) {
    case "opaque":
      return { kind: { case: "opaque", value: {} } };
    case "TLS":
      return { kind: { case: "tls", value: {} } };
    case "gRPC": {
      const routes = attached<GrpcRouteObject>(cluster, [KINDS.grpcRoutes], server).flatMap((route) =>
        grpcRoute(cluster, route),
      );
      return { kind: { case: "grpc", value: { routes: routes.length > 0 ? routes : [DEFAULT_GRPC_ROUTE] } } };
    }
    case "HTTP/1":
    case "HTTP/2": {
      const limit = rateLimit(cluster, server);
      const value = {
        routes: httpRoutes(cluster, workload, server, port),
        ...(limit !== undefined && { localRateLimit: limit }),
      };
      return { kind: { case: protocol === "HTTP/1" ? "http1" : "http2", value } };
    }
    default:
      return detect(httpRoutes(cluster, workload, server, port), rateLimit(cluster, server));
  }
}

function detect(routes: readonly HttpRouteMessage[], limit: RateLimitMessage | undefined): ProtocolMessage {
  const timeout = durationMessage(DETECT_TIMEOUT_MS);
  const httpLocalRateLimit = limit === undefined ? {} : { httpLocalRateLimit: limit };
  return { kind: { case: "detect", value: { timeout, httpRoutes: [...routes], ...httpLocalRateLimit } } };
}

const DEFAULT_HTTP_ROUTE: HttpRouteMessage = {
  metadata: defaultMetadata("default"),
  rules: [{ matches: [httpMatchMessage({})] }],
};

const DEFAULT_GRPC_ROUTE: GrpcRouteMessage = {
  metadata: defaultMetadata("default"),
  rules: [{ matches: [grpcMatchMessage({})] }],
};

/** The routes that users attached to the Server, oldest first; if there are none, the default ones. */
function httpRoutes(cluster: Cluster, workload: Workload, server: Server, port: number): HttpRouteMessage[] {
  const kinds = [KINDS.policyHttpRoutes, KINDS.httpRoutes];
  const routes = attached<HttpRouteObject>(cluster, kinds, server).flatMap((route) => httpRoute(cluster, route));
  return routes.length > 0 ? routes : [...defaultRoutes(workload, port)];
}

function attached<T extends RouteObject>(
  cluster: Cluster,
  types: readonly (typeof KINDS)[keyof typeof KINDS][],
  { metadata: { name, namespace } }: Server,
): readonly T[] {
  return types
    .flatMap((type) => cluster.store.list<T>(type, namespace))
    .filter((route) =>
      route.spec?.parentRefs?.some(
        (parent) => parent.group === "policy.linkerd.io" && parent.kind === "Server" && parent.name === name,
      ),
    )
    .toSorted(byAge);
}

function httpRoute(cluster: Cluster, route: HttpRouteObject): readonly HttpRouteMessage[] {
  const rules: NonNullable<HttpRouteMessage["rules"]> = [];
  for (const { matches = [{}], filters } of route.spec?.rules ?? []) {
    const kinds = filterKinds(filters);
    if (kinds === undefined) return [];
    rules.push({
      matches: matches.map(httpMatchMessage),
      // Inbound has no response modifier: the controller drops it.
      filters: kinds.filter((kind) => kind.case !== "responseHeaderModifier").map((kind) => ({ kind })),
    });
  }
  return [{ ...routeHead(cluster, route), rules }];
}

function grpcRoute(cluster: Cluster, route: GrpcRouteObject): readonly GrpcRouteMessage[] {
  const rules: NonNullable<GrpcRouteMessage["rules"]> = [];
  for (const { matches = [{}], filters } of route.spec?.rules ?? []) {
    const kinds = filterKinds(filters);
    if (kinds === undefined) return [];
    rules.push({
      matches: matches.map(grpcMatchMessage),
      filters: kinds.filter((kind) => kind.case === "requestHeaderModifier").map((kind) => ({ kind })),
    });
  }
  return [{ ...routeHead(cluster, route), rules }];
}

function routeHead(cluster: Cluster, route: RouteObject) {
  const { name, namespace = "" } = route.metadata;
  const group = route.apiVersion.slice(0, route.apiVersion.indexOf("/"));
  return {
    metadata: objectMetadata(route),
    hosts: (route.spec?.hostnames ?? []).map(hostMessage),
    authorizations: [...policyAuthorizations(cluster, { group, kind: route.kind, namespace, name })],
  };
}

/** Everything on one route, and for a pod another that lets its HTTP probes in from anywhere. */
function defaultRoutes(workload: Workload, port: number): readonly HttpRouteMessage[] {
  const paths = workload.kind === "pod" ? probePaths(workload, port) : [];
  if (paths.length === 0) return [DEFAULT_HTTP_ROUTE];
  const authorization: AuthzMessage = {
    networks: allNetworks().map((net) => ({ net: networkMessage(net) })),
    authentication: { permit: { case: "unauthenticated", value: {} } },
    labels: { group: "", kind: "default", name: "probe" },
    metadata: defaultMetadata("probe"),
  };
  const matches = paths.map((value) => httpMatchMessage({ method: "GET", path: { type: "Exact", value } }));
  const probe = { metadata: defaultMetadata("probe"), authorizations: [authorization], rules: [{ matches }] };
  return [DEFAULT_HTTP_ROUTE, probe];
}

function probePaths(workload: Workload & { readonly kind: "pod" }, port: number): readonly string[] {
  const named = declaredPorts(workload);
  const probes = (container: Container) => [container.livenessProbe, container.readinessProbe, container.startupProbe];
  const gets = (workload.object.spec?.containers ?? []).flatMap(probes).flatMap((probe) => probe?.httpGet ?? []);
  const here = gets.filter((get) =>
    typeof get.port === "number" ? get.port === port : named.some((p) => p.name === get.port && p.port === port),
  );
  return [...new Set(here.map(({ path }) => path ?? "/"))].sort();
}

/** The oldest rate limit that targets the Server. */
function rateLimit(cluster: Cluster, server: Server): RateLimitMessage | undefined {
  const { name, namespace = "" } = server.metadata;
  const policy = cluster.store
    .list<RateLimitPolicy>(KINDS.rateLimits, namespace)
    .filter(({ spec }) => spec?.targetRef?.kind === "Server" && spec.targetRef.name === name)
    .toSorted(byAge)[0];
  if (policy === undefined) return undefined;
  const limit = (of: { readonly requestsPerSecond?: number }) => ({ requestsPerSecond: of.requestsPerSecond ?? 0 });
  const { total, identity, overrides = [] } = policy.spec ?? {};
  return {
    metadata: objectMetadata(policy),
    ...(total && { total: limit(total) }),
    ...(identity && { identity: limit(identity) }),
    overrides: overrides.map((override) => ({
      limit: limit(override),
      clients: {
        identities: (override.clientRefs ?? [])
          .filter(({ kind }) => kind === "ServiceAccount")
          .map((ref) => ({ name: serviceAccountIdentity(cluster, ref.namespace ?? namespace, ref.name) })),
      },
    })),
  };
}
