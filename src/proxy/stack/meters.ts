import type { SocketAddress } from "../core/address.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Reason } from "../core/errors.ts";
import { NO_SOCKET_METER, type SocketMeter } from "../core/metrics.ts";
import type { Backend, OutboundPolicy, ResourceRef } from "../policy/index.ts";
import type { Peer } from "./exchange.ts";

/** What the first bytes of a connection turned out to be; Linkerd's words. */
export type Detected = "not_http" | "http/1" | "http/2" | "read_timeout" | "error";

/** Counts how protocol detection ends under one policy. */
export interface DetectionMeter {
  ended(result: Detected, seconds: number): void;
}

/** Why a connection was given up; beside the reasons of requests, what happens before there can be any. */
export type ConnectionFailure = Reason | "tls-detect-timeout" | "gateway-refused" | "too-many-connections";

/** Counts connections that reach the workload. Called per connection, and for requests only when one is refused. */
export interface InboundMeters {
  /** A connection is about to be served: it counts as open. */
  accepted(peer: Peer, server: ResourceRef): SocketMeter;
  /** A connection to the application is there. */
  dialled(): SocketMeter;
  /** An opaque connection, judged when it is set up. */
  allowed(peer: Peer, server: ResourceRef, authorization: ResourceRef): void;
  denied(peer: Peer, server: ResourceRef): void;
  /** It was allowed, and a change of policy ended it. */
  terminated(peer: Peer, server: ResourceRef): void;
  /** A request over its rate limit; `limit` is the policy object that set it. */
  limited(peer: Peer, server: ResourceRef, limit: ResourceRef | undefined, scope: "total" | "identity"): void;
  failed(originalDst: SocketAddress, failure: ConnectionFailure): void;
  detection(server: ResourceRef, port: number): DetectionMeter;
  /** A meshed peer's connection to our own port said where it belongs. */
  transportHeader(
    protocol: "http/1" | "http/2" | "",
    port: number,
    name: string | undefined,
    clientId: string | undefined,
  ): void;
}

/** What became of a connection on a route that is not HTTP's. */
export type RouteClose = "" | "forbidden" | "invalid_backend" | "invalid_policy" | "unexpected";

/** Counts the connections of one opaque or TLS route. */
export interface RouteMeter {
  opened(): void;
  closed(error: RouteClose): void;
}

/** Shows how one balancer does. Called when something changes, and for requests only when they have to wait. */
export interface BalancerMeter {
  /** Endpoints that can take requests, and those that cannot: connecting, or set aside. */
  endpoints(ready: number, pending: number): void;
  /** `Reset`: the first endpoints, or the first again. */
  updated(op: "Reset" | "Add" | "Remove"): void;
  queued(): void;
  dequeued(seconds: number): void;
  /** The way out of the queue opened or shut: fail-fast began or ended. */
  gate(open: boolean): void;
  /** It is no more: what it showed of itself is taken back. */
  closed(): void;
}

/** Counts connections that the host's programs open into the mesh. Called per connection, never per request. */
export interface OutboundMeters {
  accepted(originalDst: SocketAddress): SocketMeter;
  /** A connection to an endpoint is there, TLS included. */
  dialled(endpoint: Endpoint, backend: Backend): SocketMeter;
  failed(originalDst: SocketAddress, failure: ConnectionFailure): void;
  detection(parent: ResourceRef): DetectionMeter;
  balancer(kind: "http" | "tcp" | "tls", backend: Backend): BalancerMeter;
  /** A connection was accepted for a destination whose policy wants it carried so. */
  protocol(policy: OutboundPolicy): void;
  /** @param ip - Where the program dialled; empty where that has a name. */
  tcpRoute(parent: ResourceRef, route: ResourceRef, ip: string, port: number): RouteMeter;
  tlsRoute(parent: ResourceRef, route: ResourceRef, hostname: string): RouteMeter;
}

const NO_DETECTION: DetectionMeter = { ended() {} };
const NO_BALANCER: BalancerMeter = { endpoints() {}, updated() {}, queued() {}, dequeued() {}, gate() {}, closed() {} };
const NO_ROUTE: RouteMeter = { opened() {}, closed() {} };

/** Counts nothing: for tests and for parts that run without a page. */
export const NO_METERS: InboundMeters & OutboundMeters = {
  accepted: () => NO_SOCKET_METER,
  dialled: () => NO_SOCKET_METER,
  allowed() {},
  denied() {},
  terminated() {},
  limited() {},
  failed() {},
  detection: () => NO_DETECTION,
  transportHeader() {},
  balancer: () => NO_BALANCER,
  protocol() {},
  tcpRoute: () => NO_ROUTE,
  tlsRoute: () => NO_ROUTE,
};
