import { formatSocketAddress } from "../proxy/core/address.ts";
import type { Endpoint } from "../proxy/core/endpoint.ts";
import type { REASONS } from "../proxy/core/errors.ts";
import type { WorkloadIdentity } from "../proxy/core/identity.ts";
import type { TapEvent } from "../proxy/core/messages.ts";
import {
  COARSE_SECONDS_BUCKETS,
  type Counter,
  FINE_SECONDS_BUCKETS,
  type Histogram,
  LATENCY_MS_BUCKETS,
  type Labels,
  type MetricsRegistry,
} from "../proxy/core/metrics.ts";
import { type Backend, isFailure, type ResourceRef } from "../proxy/policy/index.ts";
import { type Exchange, isGrpc, type Peer, type Recorder } from "../proxy/stack/index.ts";
import type { Runtime } from "../proxy/transport/index.ts";
import { endpointLabels, errorLabel, refLabels, routeLabels, serverLabels, targetLabels, tlsAccept } from "./labels.ts";

export interface RecorderOptions {
  readonly direction: "inbound" | "outbound";
  readonly runtime: Runtime;
  readonly metrics: MetricsRegistry;
  readonly identity: () => WorkloadIdentity | undefined;
  readonly tapped: (event: TapEvent) => void;
}

/** Series of one label set, by response status. */
class Series {
  readonly requests: Counter;
  readonly #byStatus = new Map<string, { readonly responses: Counter; readonly latency: Histogram }>();
  readonly #metrics: MetricsRegistry;
  readonly #labels: Labels;

  constructor(metrics: MetricsRegistry, labels: Labels) {
    this.#metrics = metrics;
    this.#labels = labels;
    this.requests = metrics.counter("request_total", labels);
  }

  ended(status: number | undefined, failure: boolean, grpcStatus: string, error: string, latencyMs: number): void {
    const key = `${status} ${failure} ${grpcStatus} ${error}`;
    let found = this.#byStatus.get(key);
    if (found === undefined) {
      const code = status === undefined ? this.#labels : { ...this.#labels, status_code: String(status) };
      found = {
        responses: this.#metrics.counter("response_total", {
          ...code,
          classification: failure ? "failure" : "success",
          grpc_status: grpcStatus,
          error,
        }),
        latency: this.#metrics.histogram("response_latency_ms", code, LATENCY_MS_BUCKETS),
      };
      this.#byStatus.set(key, found);
    }
    found.responses.add(1);
    found.latency.observe(latencyMs);
  }
}

/** What is counted for one route and the backend it chose. */
class RouteSeries {
  readonly duration: Histogram;
  readonly backendDuration: Histogram | undefined;
  readonly #metrics: MetricsRegistry;
  readonly #prefix: string;
  readonly #route: Labels;
  readonly #backend: Labels | undefined;
  readonly #statuses = new Map<string, readonly [route: Counter, backend: Counter | undefined]>();

  constructor(
    metrics: MetricsRegistry,
    grpc: boolean,
    parent: ResourceRef,
    route: ResourceRef,
    backend: Backend | undefined,
  ) {
    this.#metrics = metrics;
    this.#prefix = grpc ? "outbound_grpc_route" : "outbound_http_route";
    const labels = { ...refLabels("parent", parent, true), ...routeLabels(route, true) };
    this.#route = { ...labels, hostname: "" };
    this.#backend = backend && { ...labels, ...refLabels("backend", backend.ref, true) };
    this.duration = metrics.histogram(`${this.#prefix}_request_duration_seconds`, this.#route, COARSE_SECONDS_BUCKETS);
    this.backendDuration =
      this.#backend &&
      metrics.histogram(`${this.#prefix}_backend_response_duration_seconds`, this.#backend, FINE_SECONDS_BUCKETS);
  }

  ended(status: string, error: string, seconds: number): void {
    const key = `${status} ${error}`;
    let counters = this.#statuses.get(key);
    if (counters === undefined) {
      const label = this.#prefix.includes("grpc") ? "grpc_status" : "http_status";
      const result = { [label]: status, error };
      counters = [
        this.#metrics.counter(`${this.#prefix}_request_statuses_total`, { ...this.#route, ...result }),
        this.#backend &&
          this.#metrics.counter(`${this.#prefix}_backend_response_statuses_total`, { ...this.#backend, ...result }),
      ];
      this.#statuses.set(key, counters);
    }
    counters[0].add(1);
    counters[1]?.add(1);
    this.duration.observe(seconds);
    this.backendDuration?.observe(seconds);
  }
}

interface InboundEntry {
  readonly server: ResourceRef;
  readonly route: ResourceRef | undefined;
  readonly authorization: ResourceRef | undefined;
  readonly series: Series;
  readonly allowed: Counter;
}

/** Counts every finished exchange and shows it to `tap`. Series are resolved once per connection or endpoint. */
export class ExchangeRecorder implements Recorder {
  /** Whether somebody watches. */
  tapping = false;
  readonly #options: RecorderOptions;
  readonly #byEndpoint = new WeakMap<Endpoint, Series>();
  readonly #byRoute = new WeakMap<object, Map<Backend | undefined, RouteSeries>>();

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  ended(x: Exchange): void {
    if (this.#options.direction === "inbound") this.#inbound(x);
    else this.#outbound(x);
    if (this.tapping) this.#tap(x);
  }

  #inbound(x: Exchange): void {
    const { permit, peer } = x;
    const { metrics } = this.#options;
    if (permit === undefined) return this.#refused(x);
    const entry = this.#inboundEntry(peer, permit.policy.ref, permit.route.ref, permit.authorization.ref);
    entry.allowed.add(1);
    this.#count(entry.series, x);
    if (x.failure !== undefined)
      metrics
        .counter("inbound_http_errors_total", {
          error: errorLabel(x.failure.reason),
          ...targetLabels(peer.originalDst),
          ...serverLabels(permit.policy.ref, peer.originalDst.port),
        })
        .add(1);
  }

  #refused({ peer, judge, route, failure }: Exchange): void {
    const { metrics } = this.#options;
    if (judge === undefined) return;
    const target = { ...targetLabels(peer.originalDst), ...serverLabels(judge, peer.originalDst.port) };
    if (failure?.reason === "unauthorized" && route !== undefined) {
      const labels = { ...target, ...routeLabels(route, false), ...tlsAccept(peer) };
      metrics.counter("inbound_http_authz_deny_total", labels).add(1);
    } else if (failure?.reason === "route-not-found")
      metrics.counter("inbound_http_route_not_found_total", { ...target, ...tlsAccept(peer) }).add(1);
  }

  #inboundEntry(peer: Peer, server: ResourceRef, route: ResourceRef, authorization: ResourceRef): InboundEntry {
    const known = (peer.series ??= []) as InboundEntry[];
    for (const entry of known)
      if (entry.server === server && entry.route === route && entry.authorization === authorization) return entry;
    const target = targetLabels(peer.originalDst);
    const srv = serverLabels(server, peer.originalDst.port);
    const tls = tlsAccept(peer);
    const rest = { ...srv, ...routeLabels(route, false), ...refLabels("authz", authorization, false) };
    const { metrics } = this.#options;
    const entry: InboundEntry = {
      server,
      route,
      authorization,
      series: new Series(metrics, { direction: "inbound", ...target, ...tls, ...rest }),
      allowed: metrics.counter("inbound_http_authz_allow_total", { ...target, ...rest, ...tls }),
    };
    known.push(entry);
    return entry;
  }

  #outbound(x: Exchange): void {
    const { endpoint, choice, backend } = x;
    const { metrics } = this.#options;
    if (endpoint !== undefined) {
      let series = this.#byEndpoint.get(endpoint);
      if (series === undefined) {
        series = new Series(metrics, { direction: "outbound", ...endpointLabels(endpoint, backend) });
        this.#byEndpoint.set(endpoint, series);
      }
      this.#count(series, x);
    }
    if (x.failure !== undefined)
      metrics.counter("outbound_http_errors_total", { error: errorLabel(x.failure.reason) }).add(1);
    if (choice === undefined) return;
    let byBackend = this.#byRoute.get(choice.rule);
    if (byBackend === undefined) {
      byBackend = new Map();
      this.#byRoute.set(choice.rule, byBackend);
    }
    let route = byBackend.get(backend);
    const grpc = choice.rule.classify.kind === "grpc";
    if (route === undefined) {
      // A Service's default backend is the Service itself; where there is no backend the route stands for it.
      route = new RouteSeries(metrics, grpc, backend?.ref ?? choice.route.ref, choice.route.ref, backend);
      byBackend.set(backend, route);
    }
    const status = grpc ? String(x.grpcStatus ?? "") : String(x.response?.status ?? "");
    route.ended(status, x.failure === undefined ? "" : routeError(x), (this.#now() - x.startedAt) / 1_000);
  }

  #count(series: Series, x: Exchange): void {
    series.requests.add(1);
    const grpc = x.choice?.rule.classify.kind === "grpc" || isGrpc(x.request);
    const status = x.response?.status;
    const failure =
      status === undefined
        ? x.outcome !== "client-gone"
        : isFailure(x.choice?.rule.classify ?? HTTP, grpc, status, x.grpcStatus);
    const error = status === undefined && x.outcome === "endpoint-failed" ? "unclassified" : "";
    const until = x.firstByteAt > 0 ? x.firstByteAt : this.#now();
    const from = x.dispatchedAt > 0 ? x.dispatchedAt : x.startedAt;
    series.ended(status, failure, grpc ? String(x.grpcStatus ?? 2) : "", error, until - from);
  }

  #tap(x: Exchange): void {
    const { direction, runtime, identity, tapped } = this.#options;
    const inbound = direction === "inbound";
    const own = identity();
    const query = x.request.path.indexOf("?");
    tapped({
      direction,
      atMs: runtime.clock.wallMs() - (this.#now() - x.startedAt),
      method: x.request.method,
      authority: x.request.authority ?? "",
      path: query < 0 ? x.request.path : x.request.path.slice(0, query),
      status: x.response?.status ?? 0,
      grpcStatus: x.grpcStatus,
      source: formatSocketAddress(x.peer.address),
      sourceIdentity: inbound ? x.peer.client.id : own?.name,
      destination: inbound
        ? formatSocketAddress(x.peer.originalDst)
        : (x.endpoint?.key ?? formatSocketAddress(x.peer.originalDst)),
      destinationIdentity: inbound ? own?.name : x.endpoint?.identity?.id,
      tls: inbound ? x.peer.client.tls !== "none" : x.endpoint?.identity !== undefined,
      route: x.route === undefined ? "" : describe(x.route),
      latencyMs: this.#now() - x.startedAt,
      requestBytes: x.requestBytes,
      responseBytes: x.responseBytes,
    });
  }

  #now(): number {
    return this.#options.runtime.clock.now();
  }
}

const HTTP = { kind: "http" } as const;

function describe(ref: ResourceRef): string {
  return ref.kind === "default" ? `default.${ref.name}` : `${ref.kind}.${ref.namespace}.${ref.name}`;
}

const ROUTE_ERRORS: Partial<Record<keyof typeof REASONS, string>> = {
  "load-shed": "LOAD_SHED",
  failfast: "FAIL_FAST",
  "response-timeout": "RESPONSE_HEADERS_TIMEOUT",
  "connect-failed": "IO",
  "endpoint-reset": "RESET",
};

function routeError(x: Exchange): string {
  return (x.failure && ROUTE_ERRORS[x.failure.reason]) ?? "UNKNOWN";
}
