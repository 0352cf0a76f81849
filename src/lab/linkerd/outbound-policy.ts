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
import { attachedRoutes } from "./attachment.ts";
import { forwardBackend, type OriginalDst, type Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { egressNetworkFor } from "./egress.ts";
import { egressPolicy } from "./egress-policy.ts";
import { invalidArgument, notFound } from "./failure.ts";
import { httpMatchMessage } from "./http-match.ts";
import { defaultMetadata, objectMetadata } from "./metadata.ts";
import { ipText } from "./net.ts";
import type { Service } from "./objects.ts";
import {
  detect,
  grpc,
  opaque,
  type PolicyMessage,
  type ProtocolMessage,
  type Routes,
  translate,
} from "./outbound-protocol.ts";
import type { OpaqueRouteMessage } from "./outbound-route.ts";
import { includesPort, parsePorts } from "./ports.ts";
import { serviceByIp } from "./service.ts";
import { parseServiceName, splitAuthority } from "./service-name.ts";
import { KINDS } from "./store.ts";
import { parseWorkloadToken } from "./workload-token.ts";

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
