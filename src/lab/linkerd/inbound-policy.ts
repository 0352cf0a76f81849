import type { inbound } from "../../proto/index.ts";
import { defaultAuthorizations, serverAuthorizations } from "./authorizations.ts";
import { type Cluster, type DefaultPolicy, defaultPolicy } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import { invalidArgument, notFound } from "./failure.ts";
import { defaultRoutes, grpcRoutes, type HttpRouteMessage, httpRoutes } from "./inbound-route.ts";
import type { Init } from "./message.ts";
import type { ExternalWorkload, Pod, Server } from "./objects.ts";
import { includesPort, parseStrictPorts } from "./ports.ts";
import { type RateLimitMessage, rateLimit } from "./rate-limit.ts";
import { KINDS } from "./store.ts";
import { serversOf, type Workload } from "./workload.ts";
import type { WorkloadToken } from "./workload-token.ts";

export type ServerMessage = Init<typeof inbound.ServerSchema>;
type ProtocolMessage = Init<typeof inbound.ProxyProtocolSchema>;

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
  const [server] = serversOf(cluster, workload, port);
  return server === undefined
    ? defaultServer(cluster, workload, port)
    : explicitServer(cluster, workload, server, port);
}

function findWorkload(cluster: Cluster, { kind, namespace, name }: WorkloadToken): Workload | undefined {
  if (kind === "pod") {
    const object = cluster.store.get<Pod>(KINDS.pods, namespace, name);
    // It watches the pods of a mesh alone, of whichever control plane.
    const isMeshed = object?.metadata.labels?.["linkerd.io/control-plane-ns"] !== undefined;
    return object !== undefined && isMeshed ? { kind, object } : undefined;
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
    case "gRPC":
      return { kind: { case: "grpc", value: { routes: grpcRoutes(cluster, server) } } };
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
