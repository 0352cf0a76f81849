import type { SocketAddress } from "../proxy/core/address.ts";
import type { Endpoint } from "../proxy/core/endpoint.ts";
import {
  type Counter,
  DETECT_SECONDS_BUCKETS,
  type Gauge,
  type Histogram,
  type Labels,
  type MetricsRegistry,
  QUEUE_SECONDS_BUCKETS,
  type SocketMeter,
} from "../proxy/core/metrics.ts";
import type { Backend, OutboundPolicy, ResourceRef } from "../proxy/policy/index.ts";
import type {
  BalancerMeter,
  ConnectionFailure,
  Detected,
  DetectionMeter,
  InboundMeters,
  OutboundMeters,
  Peer,
  RouteClose,
  RouteMeter,
} from "../proxy/stack/index.ts";
import { endpointLabels, errorLabel, refLabels, routeLabels, serverLabels, targetLabels, tlsAccept } from "./labels.ts";

/** The `tcp_*` families of one set of labels. */
class SocketSeries {
  readonly opened: Counter;
  readonly open: Gauge;
  readonly read: Counter;
  readonly written: Counter;
  readonly #metrics: MetricsRegistry;
  readonly #labels: Labels;
  readonly #closed = new Map<string, Counter>();

  constructor(metrics: MetricsRegistry, labels: Labels) {
    this.#metrics = metrics;
    this.#labels = labels;
    this.opened = metrics.counter("tcp_open_total", labels);
    this.open = metrics.gauge("tcp_open_connections", labels);
    this.read = metrics.counter("tcp_read_bytes_total", labels);
    this.written = metrics.counter("tcp_write_bytes_total", labels);
  }

  refused(rule: string): Counter {
    return this.#metrics.counter("mesh_agent_http_refused_total", {
      direction: this.#labels["direction"] ?? "",
      peer: this.#labels["peer"] ?? "",
      rule,
    });
  }

  closed(errno: string): Counter {
    let counter = this.#closed.get(errno);
    if (counter === undefined) {
      counter = this.#metrics.counter("tcp_close_total", { ...this.#labels, errno });
      this.#closed.set(errno, counter);
    }
    return counter;
  }
}

/** What crosses zones costs: bytes to and from endpoints by how near they are. */
class ZoneSeries {
  readonly sent: Counter;
  readonly received: Counter;

  constructor(metrics: MetricsRegistry, zone: Endpoint["zoneLocality"]) {
    const zone_locality = ZONES[zone];
    this.sent = metrics.counter("outbound_tcp_transfer_cost_bytes_total", { op: "Send", zone_locality });
    this.received = metrics.counter("outbound_tcp_transfer_cost_bytes_total", { op: "Recv", zone_locality });
  }
}

const ZONES = { unknown: "Unknown", local: "Local", remote: "Remote" } as const;

/** One open connection. It holds its series, so that they stay on the page while it lives. */
class OpenSocket implements SocketMeter {
  readonly #series: SocketSeries;
  readonly #zone: ZoneSeries | undefined;

  constructor(series: SocketSeries, zone: ZoneSeries | undefined) {
    this.#series = series;
    this.#zone = zone;
    series.opened.add(1);
    series.open.add(1);
  }

  read(bytes: number): void {
    this.#series.read.add(bytes);
    this.#zone?.received.add(bytes);
  }

  wrote(bytes: number): void {
    this.#series.written.add(bytes);
    this.#zone?.sent.add(bytes);
  }

  refused(rule: string): void {
    this.#series.refused(rule).add(1);
  }

  closed(errno: string): void {
    this.#series.open.add(-1);
    this.#series.closed(errno).add(1);
  }
}

const DETECTED: readonly Detected[] = ["not_http", "http/1", "http/2", "read_timeout", "error"];

class Detection implements DetectionMeter {
  readonly #duration: Histogram;
  readonly #results: ReadonlyMap<Detected, Counter>;

  constructor(metrics: MetricsRegistry, prefix: "inbound" | "outbound", labels: Labels) {
    this.#duration = metrics.histogram(`${prefix}_tcp_detect_http_duration_seconds`, labels, DETECT_SECONDS_BUCKETS);
    const results = `${prefix}_tcp_detect_http_results_total`;
    this.#results = new Map(DETECTED.map((result) => [result, metrics.counter(results, { result, ...labels })]));
  }

  ended(result: Detected, seconds: number): void {
    this.#duration.observe(seconds);
    this.#results.get(result)?.add(1);
  }
}

/** Counts inbound connections under linkerd2-proxy's names (telemetry.md §1.3, §1.6, §1.7). */
export class InboundConnectionRecorder implements InboundMeters {
  readonly #metrics: MetricsRegistry;
  readonly #dialled: SocketSeries;
  readonly #detections = new WeakMap<ResourceRef, Map<number, Detection>>();

  constructor(metrics: MetricsRegistry) {
    this.#metrics = metrics;
    this.#dialled = new SocketSeries(metrics, {
      direction: "inbound",
      peer: "dst",
      tls: "no_identity",
      no_tls_reason: "loopback",
    });
  }

  accepted(peer: Peer, server: ResourceRef): SocketMeter {
    const labels = {
      direction: "inbound",
      peer: "src",
      ...targetLabels(peer.originalDst),
      ...tlsAccept(peer),
      ...serverLabels(server, peer.originalDst.port),
    };
    return new OpenSocket(new SocketSeries(this.#metrics, labels), undefined);
  }

  dialled(): SocketMeter {
    return new OpenSocket(this.#dialled, undefined);
  }

  allowed(peer: Peer, server: ResourceRef, authorization: ResourceRef): void {
    this.#judged("allow", peer, server, refLabels("authz", authorization, false));
  }

  denied(peer: Peer, server: ResourceRef): void {
    this.#judged("deny", peer, server, {});
  }

  terminated(peer: Peer, server: ResourceRef): void {
    this.#judged("terminate", peer, server, {});
  }

  limited(peer: Peer, server: ResourceRef, limit: ResourceRef | undefined, scope: "total" | "identity"): void {
    const labels = {
      ...targetLabels(peer.originalDst),
      ...serverLabels(server, peer.originalDst.port),
      ...(limit && refLabels("ratelimit", limit, false)),
      ratelimit_scope: scope,
      ...tlsAccept(peer),
    };
    this.#metrics.counter("inbound_http_local_ratelimit_total", labels).add(1);
  }

  failed(originalDst: SocketAddress, failure: ConnectionFailure): void {
    const labels = { error: errorLabel(failure), ...targetLabels(originalDst) };
    this.#metrics.counter("inbound_tcp_errors_total", labels).add(1);
  }

  detection(server: ResourceRef, port: number): DetectionMeter {
    let byPort = this.#detections.get(server);
    if (byPort === undefined) {
      byPort = new Map();
      this.#detections.set(server, byPort);
    }
    let found = byPort.get(port);
    if (found === undefined) {
      found = new Detection(this.#metrics, "inbound", serverLabels(server, port));
      byPort.set(port, found);
    }
    return found;
  }

  transportHeader(
    protocol: "http/1" | "http/2" | "",
    port: number,
    name: string | undefined,
    clientId: string | undefined,
  ): void {
    const labels = {
      session_protocol: protocol,
      target_port: String(port),
      target_name: name ?? "",
      client_id: clientId ?? "",
    };
    this.#metrics.counter("inbound_tcp_transport_header_connections_total", labels).add(1);
  }

  #judged(verdict: "allow" | "deny" | "terminate", peer: Peer, server: ResourceRef, authorization: Labels): void {
    const labels = {
      ...targetLabels(peer.originalDst),
      ...serverLabels(server, peer.originalDst.port),
      ...authorization,
      ...tlsAccept(peer),
    };
    this.#metrics.counter(`inbound_tcp_authz_${verdict}_total`, labels).add(1);
  }
}

const PROTOCOLS = {
  detect: "detect",
  http1: "http/1",
  http2: "http/2",
  grpc: "http/2",
  opaque: "opaq",
  tls: "tls",
} as const satisfies Record<OutboundPolicy["kind"], string>;

const ROUTE_CLOSES: readonly RouteClose[] = ["", "forbidden", "invalid_backend", "invalid_policy", "unexpected"];

class Route implements RouteMeter {
  readonly #opened: Counter;
  readonly #closed: ReadonlyMap<RouteClose, Counter>;

  constructor(metrics: MetricsRegistry, kind: "tcp" | "tls", labels: Labels) {
    this.#opened = metrics.counter(`outbound_${kind}_route_open_total`, labels);
    const close = `outbound_${kind}_route_close_total`;
    this.#closed = new Map(ROUTE_CLOSES.map((error) => [error, metrics.counter(close, { ...labels, error })]));
  }

  opened(): void {
    this.#opened.add(1);
  }

  closed(error: RouteClose): void {
    this.#closed.get(error)?.add(1);
  }
}

/** The `*_balancer_*` families of one balancer in one worker. */
class Balancing implements BalancerMeter {
  readonly #metrics: MetricsRegistry;
  readonly #prefix: string;
  readonly #labels: Labels;
  readonly #ready: Gauge;
  readonly #pending: Gauge;
  readonly #known: Gauge;
  readonly #length: Gauge;
  readonly #requests: Counter;
  readonly #latency: Histogram;
  readonly #opened: Counter;
  readonly #shut: Counter;

  constructor(metrics: MetricsRegistry, prefix: string, labels: Labels) {
    this.#metrics = metrics;
    this.#prefix = prefix;
    this.#labels = labels;
    this.#ready = metrics.gauge(`${prefix}_endpoints`, { endpoint_state: "ready", ...labels });
    this.#pending = metrics.gauge(`${prefix}_endpoints`, { endpoint_state: "pending", ...labels });
    this.#known = metrics.gauge(`${prefix}_p2c_endpoints`, labels);
    this.#length = metrics.gauge(`${prefix}_queue_length`, labels);
    this.#requests = metrics.counter(`${prefix}_queue_requests_total`, labels);
    this.#latency = metrics.histogram(`${prefix}_queue_latency_seconds`, labels, QUEUE_SECONDS_BUCKETS);
    this.#opened = metrics.counter(`${prefix}_queue_gate_open_total`, labels);
    this.#shut = metrics.counter(`${prefix}_queue_gate_shut_total`, labels);
  }

  endpoints(ready: number, pending: number): void {
    this.#ready.set(ready);
    this.#pending.set(pending);
    this.#known.set(ready + pending);
  }

  updated(op: "Reset" | "Add" | "Remove"): void {
    this.#metrics.counter(`${this.#prefix}_p2c_updates_total`, { op, ...this.#labels }).add(1);
  }

  queued(): void {
    this.#requests.add(1);
    this.#length.add(1);
  }

  dequeued(seconds: number): void {
    this.#length.add(-1);
    this.#latency.observe(seconds);
  }

  gate(open: boolean): void {
    (open ? this.#opened : this.#shut).add(1);
  }

  closed(): void {
    this.endpoints(0, 0);
  }
}

/**
 * Several balancers of one worker may have the same labels: those of several original destinations, or of both HTTP
 * versions. Each adds what it has, so that the page shows the sum.
 */
class BalancingShare implements BalancerMeter {
  readonly #all: SharedBalancing;
  #ready = 0;
  #pending = 0;

  constructor(all: SharedBalancing) {
    this.#all = all;
    all.users++;
  }

  endpoints(ready: number, pending: number): void {
    this.#all.ready += ready - this.#ready;
    this.#all.pending += pending - this.#pending;
    this.#ready = ready;
    this.#pending = pending;
    this.#all.series.endpoints(this.#all.ready, this.#all.pending);
  }

  updated(op: "Reset" | "Add" | "Remove"): void {
    this.#all.series.updated(op);
  }

  queued(): void {
    this.#all.series.queued();
  }

  dequeued(seconds: number): void {
    this.#all.series.dequeued(seconds);
  }

  gate(open: boolean): void {
    this.#all.series.gate(open);
  }

  closed(): void {
    this.endpoints(0, 0);
    this.#all.users--;
  }
}

interface SharedBalancing {
  readonly series: Balancing;
  users: number;
  ready: number;
  pending: number;
}

/** Counts outbound connections under linkerd2-proxy's names (telemetry.md §1.3, §1.6, §1.7). */
export class OutboundConnectionRecorder implements OutboundMeters {
  readonly #metrics: MetricsRegistry;
  readonly #localIps: ReadonlySet<string>;
  readonly #dialled = new WeakMap<Endpoint, Map<Backend, SocketSeries>>();
  readonly #zones = new Map<string, ZoneSeries>();
  readonly #detections = new WeakMap<ResourceRef, Detection>();
  readonly #balancings = new Map<string, SharedBalancing>();

  /** @param localIps - This workload's own addresses: what is reached there is reached in clear text. */
  constructor(metrics: MetricsRegistry, localIps: ReadonlySet<string> = new Set()) {
    this.#metrics = metrics;
    this.#localIps = localIps;
  }

  balancer(kind: "http" | "tcp" | "tls", backend: Backend): BalancerMeter {
    const path = backend.dispatch.kind === "balancer" ? backend.dispatch.path : "";
    const refs = { ...refLabels("parent", backend.parent, true), ...refLabels("backend", backend.ref, true) };
    const labels =
      kind === "tls" ? { concrete: path } : kind === "tcp" ? { ...refs, logical: path, concrete: path } : refs;
    const key = JSON.stringify([kind, labels]);
    let shared = this.#balancings.get(key);
    if (shared === undefined) {
      for (const [other, { users }] of this.#balancings) if (users === 0) this.#balancings.delete(other);
      shared = {
        series: new Balancing(this.#metrics, `outbound_${kind}_balancer`, labels),
        users: 0,
        ready: 0,
        pending: 0,
      };
      this.#balancings.set(key, shared);
    }
    return new BalancingShare(shared);
  }

  accepted(originalDst: SocketAddress): SocketMeter {
    const labels = {
      direction: "outbound",
      peer: "src",
      ...targetLabels(originalDst),
      tls: "no_identity",
      no_tls_reason: "loopback",
    };
    return new OpenSocket(new SocketSeries(this.#metrics, labels), undefined);
  }

  dialled(endpoint: Endpoint, backend: Backend): SocketMeter {
    let byBackend = this.#dialled.get(endpoint);
    if (byBackend === undefined) {
      byBackend = new Map();
      this.#dialled.set(endpoint, byBackend);
    }
    let series = byBackend.get(backend);
    if (series === undefined) {
      const isLocal = this.#localIps.has(endpoint.address.ip);
      const labels = { direction: "outbound", peer: "dst", ...endpointLabels(endpoint, backend, isLocal) };
      series = new SocketSeries(this.#metrics, labels);
      byBackend.set(backend, series);
    }
    let zone = this.#zones.get(endpoint.zoneLocality);
    if (zone === undefined) {
      zone = new ZoneSeries(this.#metrics, endpoint.zoneLocality);
      this.#zones.set(endpoint.zoneLocality, zone);
    }
    return new OpenSocket(series, zone);
  }

  failed(originalDst: SocketAddress, failure: ConnectionFailure): void {
    const labels = { ...targetLabels(originalDst), error: errorLabel(failure) };
    this.#metrics.counter("outbound_tcp_errors_total", labels).add(1);
  }

  detection(parent: ResourceRef): DetectionMeter {
    let found = this.#detections.get(parent);
    if (found === undefined) {
      found = new Detection(this.#metrics, "outbound", refLabels("parent", parent, true));
      this.#detections.set(parent, found);
    }
    return found;
  }

  protocol(policy: OutboundPolicy): void {
    const labels = { protocol: PROTOCOLS[policy.kind], ...refLabels("parent", policy.ref, true) };
    this.#metrics.counter("outbound_tcp_protocol_connections_total", labels).add(1);
  }

  tcpRoute(parent: ResourceRef, route: ResourceRef, ip: string, port: number): RouteMeter {
    const labels = {
      ...refLabels("parent", parent, true),
      ...routeLabels(route, true),
      target_ip: ip,
      target_port: String(port),
    };
    return new Route(this.#metrics, "tcp", labels);
  }

  tlsRoute(parent: ResourceRef, route: ResourceRef, hostname: string): RouteMeter {
    const labels = { ...refLabels("parent", parent, true), ...routeLabels(route, true), hostname };
    return new Route(this.#metrics, "tls", labels);
  }
}
