import type { inbound } from "../../proto/index.ts";
import { type AuthzMessage, policyAuthorizations } from "./authorizations.ts";
import type { Cluster } from "./cluster.ts";
import { grpcMatchMessage, hostMessage, httpMatchMessage, isUnsupported } from "./http-match.ts";
import type { Init } from "./message.ts";
import { defaultMetadata, inboundMetadata } from "./metadata.ts";
import { allNetworks, networkMessage } from "./net.ts";
import type { Container, GrpcRouteObject, HttpRouteObject, RouteObject, Server } from "./objects.ts";
import { filterKinds } from "./route-filter.ts";
import { KINDS } from "./store.ts";
import { byAge, declaredPorts, type Workload } from "./workload.ts";

export type HttpRouteMessage = Init<typeof inbound.HttpRouteSchema>;
type GrpcRouteMessage = Init<typeof inbound.GrpcRouteSchema>;

const DEFAULT_HTTP_ROUTE: HttpRouteMessage = {
  metadata: defaultMetadata("default"),
  rules: [{ matches: [httpMatchMessage({})] }],
};

const DEFAULT_GRPC_ROUTE: GrpcRouteMessage = {
  metadata: defaultMetadata("default"),
  rules: [{ matches: [grpcMatchMessage({})] }],
};

/** The routes that users attached to the Server, oldest first; if there are none, the default ones. */
export function httpRoutes(cluster: Cluster, workload: Workload, server: Server, port: number): HttpRouteMessage[] {
  const kinds = [KINDS.policyHttpRoutes, KINDS.httpRoutes];
  const routes = attached<HttpRouteObject>(cluster, kinds, server).flatMap((route) => httpRoute(cluster, route));
  return routes.length > 0 ? routes : [...defaultRoutes(workload, port)];
}

/** As {@link httpRoutes}, for a Server of protocol gRPC. */
export function grpcRoutes(cluster: Cluster, server: Server): GrpcRouteMessage[] {
  const found = attached<GrpcRouteObject>(cluster, [KINDS.grpcRoutes], server);
  const routes = found.flatMap((route) => grpcRoute(cluster, route));
  return routes.length > 0 ? routes : [DEFAULT_GRPC_ROUTE];
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
    if (kinds === undefined || matches.some(isUnsupported)) return [];
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
    metadata: inboundMetadata(route),
    hosts: (route.spec?.hostnames ?? []).map(hostMessage),
    authorizations: [...policyAuthorizations(cluster, { group, kind: route.kind, namespace, name })],
  };
}

/** Everything on one route, and for a pod another that lets its HTTP probes in from anywhere. */
export function defaultRoutes(workload: Workload, port: number): readonly HttpRouteMessage[] {
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
