import type { Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import type { GrpcRouteObject, HttpRouteObject, ParentRef, RouteObject } from "./objects.ts";
import { KINDS } from "./store.ts";
import { byAge } from "./workload.ts";

/** The routes of one parent, each kind oldest first. */
export interface RouteSet {
  readonly http: readonly HttpRouteObject[];
  readonly grpc: readonly GrpcRouteObject[];
  readonly tls: readonly RouteObject[];
  readonly tcp: readonly RouteObject[];
}

/**
 * Collects the routes that count for a client. Those in the parent's namespace count for everybody (producer routes);
 * those in the client's own namespace beside them, for its clients only (consumer routes).
 */
export function attachedRoutes(cluster: Cluster, parent: Parent, client: string): RouteSet {
  return {
    http: effective<HttpRouteObject>(cluster, parent, client, [KINDS.policyHttpRoutes, KINDS.httpRoutes]),
    grpc: effective<GrpcRouteObject>(cluster, parent, client, [KINDS.grpcRoutes]),
    tls: effective<RouteObject>(cluster, parent, client, [KINDS.tlsRoutes]),
    tcp: effective<RouteObject>(cluster, parent, client, [KINDS.tcpRoutes]),
  };
}

function effective<T extends RouteObject>(
  cluster: Cluster,
  parent: Parent,
  client: string,
  types: readonly (typeof KINDS)[keyof typeof KINDS][],
): readonly T[] {
  return [...new Set([parent.namespace, client])]
    .flatMap((namespace) => types.flatMap((type) => cluster.store.list<T>(type, namespace)))
    .filter((route) => route.spec?.parentRefs?.some((ref) => attaches(route, ref, parent)))
    .toSorted(byAge);
}

function attaches(route: RouteObject, ref: ParentRef, parent: Parent): boolean {
  const group = ref.group === "core" ? "" : (ref.group ?? "gateway.networking.k8s.io");
  if (group !== parent.group || ref.kind !== parent.kind || ref.name !== parent.name) return false;
  if ((ref.namespace ?? route.metadata.namespace) !== parent.namespace) return false;
  if (ref.port !== undefined && ref.port !== parent.port) return false;
  return isAccepted(route, ref);
}

/**
 * Whether the route's status accepts it for this parent. In a cluster the policy controller writes that; the lab has
 * nobody to do it, so a status that says nothing accepts.
 */
function isAccepted(route: RouteObject, ref: ParentRef): boolean {
  const entry = route.status?.parents?.find(
    ({ parentRef }) =>
      parentRef.name === ref.name && parentRef.kind === ref.kind && (parentRef.port ?? ref.port) === ref.port,
  );
  const condition = entry?.conditions?.find(({ type }) => type === "Accepted");
  return condition === undefined || condition.status === "True";
}
