import type { outbound } from "../../proto/index.ts";
import { cidrContains, parseIp } from "../../proxy/core/address.ts";
import {
  type AccrualMessage,
  DEFAULT_LOAD,
  lenient,
  readAccrual,
  readLoad,
  readTimeouts,
  retryDefaults,
} from "./annotations.ts";
import { attachedRoutes } from "./attachment.ts";
import { forwardBackend, type OriginalDst, type Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { egressNetworkFor } from "./egress.ts";
import { egressPolicy } from "./egress-policy.ts";
import { invalidArgument, notFound } from "./failure.ts";
import { httpMatchMessage } from "./http-match.ts";
import { defaultMetadata, objectMetadata, refMetadata } from "./metadata.ts";
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
import { includesPort, parseStrictPorts } from "./ports.ts";
import { serviceByIp } from "./service.ts";
import { splitPolicyAuthority } from "./service-name.ts";
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
      const { host, port } = splitPolicyAuthority(request.target.value);
      const [name = "", home = "", svc] = host.split(".");
      // Nothing else of the name counts: neither the domain nor what stands between it and `svc`.
      if (svc !== "svc")
        throw notFound(`authority must be of the form <name>.<namespace>.svc.${cluster.clusterDomain}`);
      return namedPolicy(cluster, namespace, { name, namespace: home, port });
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
  originalDst: OriginalDst,
): PolicyMessage {
  const declared = service.spec?.ports?.some((candidate) => candidate.port === port) === true;
  if (!declared) return { metadata: objectMetadata(service, port), protocol: opaque([UNDEFINED_PORT]) };
  const { name, namespace = "" } = service.metadata;
  return namedPolicy(cluster, client, { name, namespace, port }, originalDst);
}

/** By name, where neither the Service nor the port need exist: routes and annotations are looked for all the same. */
function namedPolicy(
  cluster: Cluster,
  client: string,
  { name, namespace, port }: { readonly name: string; readonly namespace: string; readonly port: number },
  originalDst?: OriginalDst,
): PolicyMessage {
  const service = cluster.store.get<Service>(KINDS.services, namespace, name);
  const annotations = service?.metadata.annotations ?? {};
  const declared = service?.spec?.ports ?? [];
  const load = lenient(readLoad, annotations) ?? DEFAULT_LOAD;
  const appProtocol = declared.find((candidate) => candidate.port === port)?.appProtocol?.toLowerCase();
  const list = parseStrictPorts(annotations["config.linkerd.io/opaque-ports"] ?? cluster.defaultOpaquePorts);
  const isOpaque =
    appProtocol === undefined ? service !== undefined && includesPort(list, port) : isOpaqueBy(appProtocol);
  const parent: Parent = {
    group: "",
    kind: "Service",
    namespace,
    name,
    port,
    originalDst,
    // Penalties are for answers, which bytes do not have.
    load: isOpaque ? DEFAULT_LOAD : load,
  };
  const routes = translate(cluster, parent, attachedRoutes(cluster, parent, client), {
    timeouts: lenient(readTimeouts, annotations),
    ...retryDefaults(annotations),
  });
  const accrual = lenient(readAccrual, annotations);
  const metadata = refMetadata({ group: "core", kind: "Service", name, namespace }, port);
  return { metadata, protocol: serviceProtocol(routes, accrual, appProtocol, isOpaque) };
}

/** `linkerd.io/opaque`, `linkerd.io/tcp`, and whatever nobody knows. */
function isOpaqueBy(appProtocol: string): boolean {
  return appProtocol !== "http" && appProtocol !== "kubernetes.io/h2c";
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
