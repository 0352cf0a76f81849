import type { outbound } from "../../proto/index.ts";
import { cidrContains, parseIp } from "../../proxy/core/address.ts";
import {
  type AccrualMessage,
  DEFAULT_LOAD,
  lenient,
  readAccrual,
  readLoad,
  readRetry,
  readTimeouts,
} from "./annotations.ts";
import { attachedRoutes, type RouteSet } from "./attachment.ts";
import { defaultBackend, forwardBackend, type Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import { egressNetworkFor } from "./egress.ts";
import { invalidArgument, notFound } from "./failure.ts";
import { grpcMatchMessage, httpMatchMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import { defaultMetadata, objectMetadata } from "./metadata.ts";
import { ipText } from "./net.ts";
import type { EgressNetwork, Service } from "./objects.ts";
import {
  type GrpcRouteMessage,
  grpcRetry,
  grpcRouteMessage,
  type HttpRouteMessage,
  httpRetry,
  httpRouteMessage,
  type OpaqueRouteMessage,
  opaqueRouteMessage,
  type RouteDefaults,
  type TlsRouteMessage,
  tlsRouteMessage,
} from "./outbound-route.ts";
import { includesPort, parsePorts } from "./ports.ts";
import { serviceByIp } from "./service.ts";
import { parseServiceName, splitAuthority } from "./service-name.ts";
import { KINDS } from "./store.ts";
import { parseWorkloadToken } from "./workload-token.ts";

export type PolicyMessage = Init<typeof outbound.OutboundPolicySchema>;
type ProtocolMessage = Init<typeof outbound.ProxyProtocolSchema>;

/** How long a proxy waits for the first bytes of a client. */
const DETECT_TIMEOUT_MS = 10_000;

/**
 * How a workload's traffic to an address or a name is routed.
 *
 * @throws CallFailure InvalidArgument for a request that is none; NotFound for addresses in the cluster that are no
 *   Service's, and for names that are no Service.
 */
export function outboundPolicy(cluster: Cluster, request: outbound.TrafficSpec): PolicyMessage {
  const { namespace } = parseWorkloadToken(request.sourceWorkload);
  switch (request.target.case) {
    case "addr": {
      const { ip: message, port } = request.target.value;
      const ip = ipText(message);
      if (ip === undefined) throw invalidArgument("no address");
      if (port < 1 || port > 65535) throw invalidArgument(`invalid port: ${port}`);
      return addressPolicy(cluster, namespace, { ip, port });
    }
    case "authority": {
      const authority = splitAuthority(request.target.value);
      if (authority === undefined || authority.host === "") {
        throw invalidArgument(`invalid authority: ${request.target.value}`);
      }
      const name = parseServiceName(authority.host, cluster.clusterDomain);
      const service = name && cluster.store.get<Service>(KINDS.services, name.namespace, name.name);
      if (service === undefined || name?.hostname !== undefined) throw notFound(`no such service: ${authority.host}`);
      return servicePolicy(cluster, namespace, service, authority.port, undefined);
    }
    case undefined:
      throw invalidArgument("no target");
    default:
      return request.target satisfies never;
  }
}

interface OriginalDst {
  readonly ip: string;
  readonly port: number;
}

function addressPolicy(cluster: Cluster, client: string, originalDst: OriginalDst): PolicyMessage {
  const service = serviceByIp(cluster, originalDst.ip);
  if (service !== undefined) return servicePolicy(cluster, client, service, originalDst.port, originalDst);
  const egress = egressNetworkFor(cluster, client, originalDst.ip);
  if (egress !== undefined) return egressPolicy(cluster, client, egress, originalDst);
  const ip = parseIp(originalDst.ip);
  if (ip !== undefined && cluster.clusterNetworks.some((network) => cidrContains(network, ip))) {
    throw notFound(`no service or egress network for ${originalDst.ip}:${originalDst.port}`);
  }
  return fallbackPolicy(originalDst);
}

/** Out of the cluster, and nobody has an opinion: straight to where the client wanted to go. */
function fallbackPolicy(originalDst: OriginalDst): PolicyMessage {
  const metadata = defaultMetadata("egress-fallback");
  const only = { backend: forwardBackend(originalDst, metadata) };
  const backends = { kind: { case: "firstAvailable" as const, value: { backends: [only] } } };
  const http = [{ metadata, rules: [{ matches: [httpMatchMessage({})], backends }] }];
  return { metadata, protocol: detect(http, [{ metadata, rules: [{ backends }] }], undefined) };
}

function servicePolicy(
  cluster: Cluster,
  client: string,
  service: Service,
  port: number,
  originalDst: OriginalDst | undefined,
): PolicyMessage {
  const { name, namespace = "", annotations = {} } = service.metadata;
  const metadata = objectMetadata(service, port);
  const declared = service.spec?.ports?.find((candidate) => candidate.port === port);
  if (declared === undefined) return { metadata, protocol: opaque([UNDEFINED_PORT]) };
  const load = lenient(readLoad, annotations) ?? DEFAULT_LOAD;
  const parent: Parent = { group: "", kind: "Service", namespace, name, port, originalDst, load };
  const routes = translate(cluster, parent, attachedRoutes(cluster, parent, client), {
    timeouts: lenient(readTimeouts, annotations),
    retry: lenient(readRetry, annotations),
  });
  const accrual = lenient(readAccrual, annotations);
  const ports = (service.spec?.ports ?? []).map((p) => ({
    ...(p.name !== undefined && { name: p.name }),
    port: p.port,
  }));
  const list = parsePorts(annotations["config.linkerd.io/opaque-ports"] ?? cluster.defaultOpaquePorts, ports);
  return { metadata, protocol: serviceProtocol(routes, accrual, declared.appProtocol, includesPort(list, port)) };
}

/** The routes of a parent, translated, with what stands in for each kind that has none. */
interface Routes {
  readonly http: readonly HttpRouteMessage[];
  readonly grpc: readonly GrpcRouteMessage[];
  readonly tls: readonly TlsRouteMessage[];
  readonly tcp: readonly OpaqueRouteMessage[];
  readonly defaultHttp: HttpRouteMessage;
  readonly defaultOpaque: OpaqueRouteMessage;
}

function translate(cluster: Cluster, parent: Parent, found: RouteSet, defaults: RouteDefaults): Routes {
  const backend = { backend: defaultBackend(cluster, parent) };
  const backends = { kind: { case: "firstAvailable" as const, value: { backends: [backend] } } };
  const timeouts = defaults.timeouts && { timeouts: defaults.timeouts };
  return {
    http: found.http.flatMap((route) => httpRouteMessage(cluster, parent, route, defaults) ?? []),
    grpc: found.grpc.flatMap((route) => grpcRouteMessage(cluster, parent, route, defaults) ?? []),
    tls: found.tls.flatMap((route) => tlsRouteMessage(cluster, parent, route) ?? []),
    // Of several only the first is served.
    tcp: found.tcp.slice(0, 1).map((route) => opaqueRouteMessage(cluster, parent, route)),
    defaultHttp: {
      metadata: defaultMetadata("http"),
      rules: [{ matches: [httpMatchMessage({})], backends, ...timeouts, ...httpRetry(defaults.retry) }],
    },
    defaultOpaque: { metadata: defaultMetadata("opaq"), rules: [{ backends }] },
  };
}

/** Linkerd serves one kind of protocol a port: what the Service says, then what kinds of routes there are. */
function serviceProtocol(
  routes: Routes,
  accrual: AccrualMessage | undefined,
  appProtocol: string | undefined,
  isOpaquePort: boolean,
): ProtocolMessage {
  const http = routes.http.length > 0 ? routes.http : [routes.defaultHttp];
  const tcp = routes.tcp.length > 0 ? routes.tcp : [routes.defaultOpaque];
  const failureAccrual = accrual === undefined ? {} : { failureAccrual: accrual };
  switch (appProtocol) {
    case undefined:
      break;
    case "http":
      return { kind: { case: "http1", value: { routes: [...http], ...failureAccrual } } };
    case "kubernetes.io/h2c":
      if (routes.grpc.length > 0) return grpc(routes.grpc, accrual);
      return { kind: { case: "http2", value: { routes: [...http], ...failureAccrual } } };
    default:
      // `linkerd.io/opaque`, `linkerd.io/tcp`, and whatever nobody knows.
      return opaque(tcp);
  }
  // An appProtocol outranks this list here, though not in `GetProfile`: the two may contradict each other.
  if (isOpaquePort) return opaque(tcp);
  // No detection at all: HTTP/1 clients of such a port break.
  if (routes.grpc.length > 0) return grpc(routes.grpc, accrual);
  if (routes.http.length > 0) return detect(routes.http, [routes.defaultOpaque], accrual);
  if (routes.tls.length > 0) return { kind: { case: "tls", value: { routes: [...routes.tls] } } };
  if (routes.tcp.length > 0) return opaque(tcp);
  return detect(http, [routes.defaultOpaque], accrual);
}

/** A port that the Service does not have: the proxy closes such connections. */
const UNDEFINED_PORT: OpaqueRouteMessage = {
  metadata: defaultMetadata("undefined-port"),
  rules: [
    {
      filters: [{ kind: { case: "forbidden", value: {} } }],
      backends: { kind: { case: "empty", value: {} } },
    },
  ],
};

function egressPolicy(
  cluster: Cluster,
  client: string,
  egress: EgressNetwork,
  originalDst: OriginalDst,
): PolicyMessage {
  const { name, namespace = "", annotations = {} } = egress.metadata;
  const { port } = originalDst;
  const load = lenient(readLoad, annotations) ?? DEFAULT_LOAD;
  const parent: Parent = {
    group: "policy.linkerd.io",
    kind: "EgressNetwork",
    namespace,
    name,
    port,
    originalDst,
    load,
  };
  const defaults = { timeouts: lenient(readTimeouts, annotations), retry: lenient(readRetry, annotations) };
  const routes = translate(cluster, parent, attachedRoutes(cluster, parent, client), defaults);
  const accrual = lenient(readAccrual, annotations);
  const last = trafficPolicy(cluster, parent, egress.spec?.trafficPolicy === "Allow", defaults);
  return { metadata: objectMetadata(egress, port), protocol: egressProtocol(routes, last, accrual) };
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
  const ratio = { numerator: 1, denominator: 1 };
  const forbidden = allow ? [] : [{ kind: { case: "forbidden" as const, value: {} } }];
  const http: HttpRouteMessage = {
    metadata: defaultMetadata(`http-egress-${word}`),
    rules: [
      {
        matches: [httpMatchMessage({})],
        backends,
        filters: allow ? [] : [{ kind: { case: "failureInjector", value: { status: 403, message, ratio } } }],
        ...(defaults.timeouts && { timeouts: defaults.timeouts }),
        ...httpRetry(defaults.retry),
      },
    ],
  };
  const grpcRoute: GrpcRouteMessage = {
    metadata: defaultMetadata(`grpc-egress-${word}`),
    rules: [
      {
        matches: [grpcMatchMessage({})],
        backends,
        filters: allow ? [] : [{ kind: { case: "failureInjector", value: { code: 7, message, ratio } } }],
        ...(defaults.timeouts && { timeouts: defaults.timeouts }),
        ...grpcRetry(defaults.retry),
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

function opaque(routes: readonly OpaqueRouteMessage[]): ProtocolMessage {
  return { kind: { case: "opaque", value: { routes: [...routes] } } };
}

function grpc(routes: readonly GrpcRouteMessage[], accrual: AccrualMessage | undefined): ProtocolMessage {
  const failureAccrual = accrual === undefined ? {} : { failureAccrual: accrual };
  return { kind: { case: "grpc", value: { routes: [...routes], ...failureAccrual } } };
}

function detect(
  http: readonly HttpRouteMessage[],
  tcp: readonly OpaqueRouteMessage[],
  accrual: AccrualMessage | undefined,
): ProtocolMessage {
  const version = { routes: [...http], ...(accrual && { failureAccrual: accrual }) };
  const timeout = durationMessage(DETECT_TIMEOUT_MS);
  return { kind: { case: "detect", value: { timeout, opaque: { routes: [...tcp] }, http1: version, http2: version } } };
}
