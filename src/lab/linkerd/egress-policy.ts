import { type AccrualMessage, DEFAULT_LOAD, lenient, readAccrual, readTimeouts, retryDefaults } from "./annotations.ts";
import { attachedRoutes } from "./attachment.ts";
import { defaultBackend, type OriginalDst, type Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { httpMatchMessage } from "./http-match.ts";
import { defaultMetadata, objectMetadata } from "./metadata.ts";
import type { EgressNetwork } from "./objects.ts";
import {
  detect,
  grpc,
  opaque,
  type PolicyMessage,
  type ProtocolMessage,
  type Routes,
  translate,
} from "./outbound-protocol.ts";
import {
  type GrpcRouteMessage,
  grpcRetry,
  type HttpRouteMessage,
  httpRetry,
  type OpaqueRouteMessage,
  type RouteDefaults,
  type TlsRouteMessage,
} from "./outbound-route.ts";
import { includesPort, parseStrictPorts } from "./ports.ts";

/** The policy for an address that an EgressNetwork rules: its routes, and at the end what it says of everything else. */
export function egressPolicy(
  cluster: Cluster,
  client: string,
  egress: EgressNetwork,
  originalDst: OriginalDst,
): PolicyMessage {
  const { name, namespace = "", annotations = {} } = egress.metadata;
  const { port } = originalDst;
  const parent: Parent = {
    group: "policy.linkerd.io",
    kind: "EgressNetwork",
    namespace,
    name,
    port,
    originalDst,
    // Penalties are a Service's alone to ask for.
    load: DEFAULT_LOAD,
  };
  const defaults = { timeouts: lenient(readTimeouts, annotations), ...retryDefaults(annotations) };
  const routes = translate(cluster, parent, attachedRoutes(cluster, parent, client), defaults);
  const accrual = lenient(readAccrual, annotations);
  const last = trafficPolicy(cluster, parent, egress.spec?.trafficPolicy === "Allow", defaults);
  const list = parseStrictPorts(annotations["config.linkerd.io/opaque-ports"] ?? cluster.defaultOpaquePorts);
  const protocol = includesPort(list, port)
    ? opaque(routes.tcp.length > 0 ? routes.tcp : [last.tcp])
    : egressProtocol(routes, last, accrual);
  return { metadata: objectMetadata(egress, port), protocol };
}

function egressProtocol(
  routes: Routes,
  last: ReturnType<typeof trafficPolicy>,
  accrual: AccrualMessage | undefined,
): ProtocolMessage {
  if (routes.grpc.length > 0) return grpc([...routes.grpc, last.grpc], accrual);
  if (routes.http.length > 0) return detect([...routes.http, last.http], [last.tcp], accrual);
  if (routes.tls.length > 0) return { kind: { case: "tls", value: { routes: [...routes.tls, last.tls] } } };
  // There is room for one opaque route, which the attached one takes.
  if (routes.tcp.length > 0) return opaque(routes.tcp);
  return detect([last.http], [last.tcp], accrual);
}

/** The route at the end of every list, which lets through or refuses what no other route took. */
function trafficPolicy(cluster: Cluster, parent: Parent, allow: boolean, defaults: RouteDefaults) {
  const backend = { backend: defaultBackend(cluster, parent) };
  const backends = { kind: { case: "firstAvailable" as const, value: { backends: [backend] } } };
  const word = allow ? "allow" : "deny";
  const message = "traffic not allowed";
  const forbidden = allow ? [] : [{ kind: { case: "forbidden" as const, value: {} } }];
  const http: HttpRouteMessage = {
    metadata: defaultMetadata(`http-egress-${word}`),
    rules: [
      {
        matches: [httpMatchMessage({})],
        backends,
        filters: allow ? [] : [{ kind: { case: "failureInjector", value: { status: 403, message } } }],
        ...(defaults.timeouts && { timeouts: defaults.timeouts }),
        ...httpRetry(defaults.httpRetry),
      },
    ],
  };
  const grpcRoute: GrpcRouteMessage = {
    metadata: defaultMetadata(`grpc-egress-${word}`),
    rules: [
      {
        backends,
        filters: allow ? [] : [{ kind: { case: "failureInjector", value: { code: 7, message } } }],
        ...(defaults.timeouts && { timeouts: defaults.timeouts }),
        ...grpcRetry(defaults.grpcRetry),
      },
    ],
  };
  const tls: TlsRouteMessage = {
    metadata: defaultMetadata(`tls-egress-${word}`),
    rules: [{ backends, filters: forbidden }],
  };
  const tcp: OpaqueRouteMessage = {
    metadata: defaultMetadata(`tcp-egress-${word}`),
    rules: [{ backends, filters: forbidden }],
  };
  return { http, grpc: grpcRoute, tls, tcp };
}
