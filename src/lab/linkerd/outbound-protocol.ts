import type { outbound } from "../../proto/index.ts";
import type { AccrualMessage } from "./annotations.ts";
import type { RouteSet } from "./attachment.ts";
import { defaultBackend, type Parent } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import { httpMatchMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import { defaultMetadata } from "./metadata.ts";
import {
  type GrpcRouteMessage,
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

export type PolicyMessage = Init<typeof outbound.OutboundPolicySchema>;
export type ProtocolMessage = Init<typeof outbound.ProxyProtocolSchema>;

/** How long a proxy waits for the first bytes of a client. */
const DETECT_TIMEOUT_MS = 10_000;

/** The routes of a parent, translated, with what stands in for each kind that has none. */
export interface Routes {
  readonly http: readonly HttpRouteMessage[];
  readonly grpc: readonly GrpcRouteMessage[];
  readonly tls: readonly TlsRouteMessage[];
  readonly tcp: readonly OpaqueRouteMessage[];
  readonly defaultHttp: HttpRouteMessage;
  readonly defaultOpaque: OpaqueRouteMessage;
}

/** Translates what is attached to a parent; what Linkerd drops is left out. */
export function translate(cluster: Cluster, parent: Parent, found: RouteSet, defaults: RouteDefaults): Routes {
  const backend = { backend: defaultBackend(cluster, parent) };
  const backends = { kind: { case: "firstAvailable" as const, value: { backends: [backend] } } };
  const timeouts = defaults.timeouts && { timeouts: defaults.timeouts };
  return {
    http: found.http.flatMap((route) => httpRouteMessage(cluster, parent, route, defaults) ?? []),
    grpc: found.grpc.flatMap((route) => grpcRouteMessage(cluster, parent, route, defaults) ?? []),
    tls: found.tls.flatMap((route) => tlsRouteMessage(cluster, parent, route) ?? []),
    // Of several only the first is served.
    tcp: found.tcp.flatMap((route) => opaqueRouteMessage(cluster, parent, route) ?? []).slice(0, 1),
    defaultHttp: {
      metadata: defaultMetadata("http"),
      rules: [{ matches: [httpMatchMessage({})], backends, ...timeouts, ...httpRetry(defaults.httpRetry) }],
    },
    defaultOpaque: { metadata: defaultMetadata("opaq"), rules: [{ backends }] },
  };
}

/** Bytes that nobody parses. */
export function opaque(routes: readonly OpaqueRouteMessage[]): ProtocolMessage {
  return { kind: { case: "opaque", value: { routes: [...routes] } } };
}

/** HTTP/2 with gRPC in it, without detection. */
export function grpc(routes: readonly GrpcRouteMessage[], accrual: AccrualMessage | undefined): ProtocolMessage {
  const failureAccrual = accrual === undefined ? {} : { failureAccrual: accrual };
  return { kind: { case: "grpc", value: { routes: [...routes], ...failureAccrual } } };
}

/** Whatever the client's first bytes say. Both versions of HTTP have the same routes. */
export function detect(
  http: readonly HttpRouteMessage[],
  tcp: readonly OpaqueRouteMessage[],
  accrual: AccrualMessage | undefined,
): ProtocolMessage {
  const version = { routes: [...http], ...(accrual && { failureAccrual: accrual }) };
  const timeout = durationMessage(DETECT_TIMEOUT_MS);
  return { kind: { case: "detect", value: { timeout, opaque: { routes: [...tcp] }, http1: version, http2: version } } };
}
