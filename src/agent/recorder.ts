import { formatSocketAddress } from "../proxy/core/address.ts";
import type { Endpoint } from "../proxy/core/endpoint.ts";
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
import { type Backend, isFailure, type OutboundChoice, type Permit, type ResourceRef } from "../proxy/policy/index.ts";
import { type AttemptRecorder, type Exchange, isGrpc, type Peer, type RetryMeter } from "../proxy/stack/index.ts";
import type { Runtime } from "../proxy/transport/index.ts";
import { grpcStatusName } from "../proxy/wire/grpc/index.ts";
import { type Answered, AnswerSeries, labelOf } from "./answer-series.ts";
import { endpointError, endpointStatus, grpcCode, routeError, routeStatus } from "./exchange-outcome.ts";
import { InboundRouteSeries, wasForwarded, wasRouted } from "./inbound-route-series.ts";
import { endpointLabels, errorLabel, refLabels, routeLabels, serverLabels, targetLabels, tlsAccept } from "./labels.ts";

export interface RecorderOptions {
  readonly direction: "inbound" | "outbound";
  readonly runtime: Runtime;
  readonly metrics: MetricsRegistry;
  readonly identity: () => WorkloadIdentity | undefined;
  readonly tapped: (event: TapEvent) => void;
  /** This workload's own addresses: what is reached there is reached in clear text. */
  readonly localIps?: ReadonlySet<string>;
}

/** Series of one label set, by response status. */
class Series {
  readonly requests: Counter;
  readonly #answers: AnswerSeries<Counter>;
  readonly #latencies: AnswerSeries<Histogram>;

  constructor(metrics: MetricsRegistry, labels: Labels) {
    this.requests = metrics.counter("request_total", labels);
    this.#answers = new AnswerSeries((answered) => {
      const code = withStatusCode(labels, answered.status);
      return metrics.counter("response_total", { ...code, ...classified(answered) });
    });
    this.#latencies = new AnswerSeries(({ status }) =>
      metrics.histogram("response_latency_ms", withStatusCode(labels, status), LATENCY_MS_BUCKETS),
    );
  }

  /** The content of an answer begins, or will not. */
  began(status: number, latencyMs: number): void {
    this.#latencies.of(status, false, undefined, "").observe(latencyMs);
  }

  ended(status: number | undefined, failure: boolean, grpcStatus: number | undefined, error: string): void {
    this.#answers.of(status, failure, grpcStatus, error).add(1);
    // A failure without an answer has a histogram, with nothing in it.
    if (status === undefined) this.#latencies.of(status, false, undefined, "");
  }
}

/** What is counted for one route, under one family or the other. */
class RouteSeries {
  readonly labels: Labels;
  readonly prefix: string;
  readonly duration: Histogram;
  retry: RetrySeries | undefined;
  readonly #statuses: AnswerSeries<Counter>;

  constructor(metrics: MetricsRegistry, grpc: boolean, parent: ResourceRef, route: ResourceRef) {
    this.prefix = grpc ? "outbound_grpc_route" : "outbound_http_route";
    this.labels = { ...refLabels("parent", parent, true), ...routeLabels(route, true) };
    this.duration = metrics.histogram(
      `${this.prefix}_request_duration_seconds`,
      { ...this.labels, hostname: "" },
      COARSE_SECONDS_BUCKETS,
    );
    this.#statuses = new AnswerSeries((answered) =>
      metrics.counter(`${this.prefix}_request_statuses_total`, {
        ...this.labels,
        hostname: "",
        ...statusLabels(this.prefix, answered),
      }),
    );
  }

  ended(status: number | undefined, error: string, seconds: number): void {
    this.#statuses.of(status, false, undefined, error).add(1);
    this.duration.observe(seconds);
  }
}

/** What is counted for one backend of a route, per attempt. */
class BackendSeries {
  readonly requests: Counter;
  readonly #duration: Histogram;
  readonly #statuses: AnswerSeries<Counter>;

  constructor(metrics: MetricsRegistry, route: RouteSeries, backend: Backend) {
    const prefix = `${route.prefix}_backend`;
    const labels = { ...route.labels, ...refLabels("backend", backend.ref, true) };
    this.requests = metrics.counter(`${prefix}_requests_total`, labels);
    this.#duration = metrics.histogram(`${prefix}_response_duration_seconds`, labels, FINE_SECONDS_BUCKETS);
    this.#statuses = new AnswerSeries((answered) =>
      metrics.counter(`${prefix}_response_statuses_total`, { ...labels, ...statusLabels(prefix, answered) }),
    );
  }

  ended(status: number | undefined, error: string, seconds: number): void {
    this.#statuses.of(status, false, undefined, error).add(1);
    this.#duration.observe(seconds);
  }
}

// What did not say how it ended has ended so (linkerd2-proxy, GrpcRsp).
const UNKNOWN = 2;

/** gRPC's by its name: `viz stat-outbound` takes whatever is not `OK` for a failure. */
function statusLabels(prefix: string, { status, error }: Answered): Labels {
  if (!prefix.startsWith("outbound_grpc")) return { http_status: labelOf(status), error };
  return { grpc_status: grpcStatusName(status ?? UNKNOWN), error };
}

function withStatusCode(labels: Labels, status: number | undefined): Labels {
  return status === undefined ? labels : { ...labels, status_code: labelOf(status) };
}

function classified({ failure, grpcStatus, error }: Answered): Labels {
  return { classification: failure ? "failure" : "success", grpc_status: labelOf(grpcStatus), error };
}

/** All four are there as soon as a request with a retry policy was seen (telemetry.md §1.5). */
class RetrySeries implements RetryMeter {
  readonly #requests: Counter;
  readonly #successes: Counter;
  readonly #limitExceeded: Counter;
  readonly #overflow: Counter;

  constructor(metrics: MetricsRegistry, route: RouteSeries) {
    const counter = (name: string) =>
      metrics.counter(`${route.prefix}_retry_${name}_total`, { ...route.labels, hostname: "" });
    this.#requests = counter("requests");
    this.#successes = counter("successes");
    this.#limitExceeded = counter("limit_exceeded");
    this.#overflow = counter("overflow");
  }

  sent(): void {
    this.#requests.add(1);
  }

  succeeded(): void {
    this.#successes.add(1);
  }

  exhausted(): void {
    this.#limitExceeded.add(1);
  }

  overflowed(): void {
    this.#overflow.add(1);
  }
}

/** A ServiceProfile's route, outside the retries or inside. */
class ProfileSeries {
  readonly requests: Counter;
  readonly #answers: AnswerSeries<Counter>;
  readonly #latencies: AnswerSeries<Histogram> | undefined;

  constructor(metrics: MetricsRegistry, labels: Labels, actual: boolean) {
    const prefix = actual ? "route_actual" : "route";
    this.requests = metrics.counter(`${prefix}_request_total`, labels);
    this.#answers = new AnswerSeries((answered) =>
      metrics.counter(`${prefix}_response_total`, {
        ...withStatusCode(labels, answered.status),
        ...classified(answered),
      }),
    );
    this.#latencies = actual
      ? undefined
      : new AnswerSeries(({ status }) =>
          metrics.histogram("route_response_latency_ms", withStatusCode(labels, status), LATENCY_MS_BUCKETS),
        );
  }

  began(status: number, latencyMs: number): void {
    this.#latencies?.of(status, false, undefined, "").observe(latencyMs);
  }

  ended(status: number | undefined, failure: boolean, grpcStatus: number | undefined, error: string): void {
    this.#answers.of(status, failure, grpcStatus, error).add(1);
    if (status === undefined) this.#latencies?.of(status, false, undefined, "");
  }
}

/** The series of one rule. Rules belong to a policy, so these go when it does. */
interface RuleSeries {
  readonly route: RouteSeries;
  readonly backends: Map<Backend, BackendSeries>;
  /** Only with a ServiceProfile. */
  readonly profile: { readonly effective: ProfileSeries; readonly actual: ProfileSeries } | undefined;
}

interface InboundEntry {
  readonly server: ResourceRef;
  readonly route: ResourceRef | undefined;
  readonly authorization: ResourceRef | undefined;
  readonly series: Series;
  readonly allowed: Counter;
  readonly routed: InboundRouteSeries;
}

/**
 * Counts exchanges: requests when they go out, latency when the answer's content begins, answers when they end. Shows
 * finished ones to `tap`. Series are resolved once per connection or endpoint.
 */
export class ExchangeRecorder implements AttemptRecorder {
  /** Whether somebody watches. */
  tapping = false;
  readonly #options: RecorderOptions;
  readonly #byEndpoint = new WeakMap<Endpoint, Series>();
  readonly #byRule = new WeakMap<object, RuleSeries>();

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  ended(x: Exchange): void {
    if (this.#options.direction === "inbound") this.#inbound(x);
    else this.#outbound(x);
    if (this.tapping) this.#tap(x);
  }

  permitted(x: Exchange): void {
    if (x.permit !== undefined) this.#inboundEntry(x.peer, x.permit).allowed.add(1);
  }

  routed(x: Exchange): void {
    const { choice } = x;
    if (choice?.http.canonical !== undefined) this.#rule(x, choice).profile?.effective.requests.add(1);
  }

  sent(x: Exchange): void {
    const { choice, backend, permit } = x;
    if (permit !== undefined) this.#inboundEntry(x.peer, permit).routed.requests.add(1);
    if (choice === undefined || backend === undefined) return;
    const rule = this.#rule(x, choice);
    this.#backendSeries(rule, backend).requests.add(1);
    rule.profile?.actual.requests.add(1);
  }

  dispatched(x: Exchange): void {
    this.#request(x);
  }

  answering(x: Exchange): void {
    if (this.#options.direction === "inbound") return this.began(x);
    const { choice } = x;
    if (choice?.http.canonical === undefined || x.outcome === "refused") return;
    const status = x.response?.status;
    if (status !== undefined) this.#rule(x, choice).profile?.effective.began(status, this.#now() - x.startedAt);
  }

  began(x: Exchange): void {
    const status = x.response?.status;
    if (status !== undefined) this.#request(x)?.began(status, this.#now() - latencyFrom(x));
  }

  /** The series of whom it was dispatched to, in which it is counted once. */
  #request(x: Exchange): Series | undefined {
    if (x.series !== undefined) return x.series as Series;
    const series = x.permit === undefined ? this.#endpointSeries(x) : this.#inboundEntry(x.peer, x.permit).series;
    series?.requests.add(1);
    x.series = series;
    return series;
  }

  #inbound(x: Exchange): void {
    const { permit, peer } = x;
    const { metrics } = this.#options;
    if (permit === undefined) return this.#refused(x);
    const entry = this.#inboundEntry(peer, permit);
    const reason = x.failure?.reason;
    if (wasRouted(reason, x.dispatchedAt)) {
      if (wasForwarded(reason)) this.#count(x);
      const status = permit.policy.protocol.kind === "grpc" ? x.grpcStatus : x.response?.status;
      if (!wasAbandoned(x)) entry.routed.ended(status, (this.#now() - x.startedAt) / 1_000);
    }
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
    else if (failure !== undefined)
      metrics.counter("inbound_http_errors_total", { error: errorLabel(failure.reason), ...target }).add(1);
  }

  #inboundEntry(peer: Peer, permit: Permit): InboundEntry {
    const server = permit.policy.ref;
    const route = permit.route.ref;
    const authorization = permit.authorization.ref;
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
      routed: new InboundRouteSeries(
        metrics,
        permit.policy.protocol.kind === "grpc",
        server,
        peer.originalDst.port,
        route,
      ),
    };
    known.push(entry);
    return entry;
  }

  /** One attempt at a request whose route retries: what its endpoint and its backend did. */
  attempted(x: Exchange): void {
    this.#count(x);
    if (x.choice === undefined || x.backend === undefined) return;
    const rule = this.#rule(x, x.choice);
    this.#backend(rule, x, x.choice, x.backend);
    if (rule.profile !== undefined) this.#profile(rule.profile.actual, x);
  }

  retries(x: Exchange): RetryMeter {
    const { route } = this.#rule(x, x.choice as OutboundChoice);
    route.retry ??= new RetrySeries(this.#options.metrics, route);
    return route.retry;
  }

  #outbound(x: Exchange): void {
    const { choice, backend } = x;
    if (!x.attempted) this.#count(x);
    if (x.failure !== undefined)
      this.#options.metrics.counter("outbound_http_errors_total", { error: errorLabel(x.failure.reason) }).add(1);
    if (choice === undefined) return;
    const rule = this.#rule(x, choice);
    if (!wasAbandoned(x)) rule.route.ended(statusFor(x, choice), routeError(x), (this.#now() - x.startedAt) / 1_000);
    if (backend !== undefined && !x.attempted) this.#backend(rule, x, choice, backend);
    if (rule.profile === undefined) return;
    this.#profile(rule.profile.effective, x);
    if (!x.attempted) this.#profile(rule.profile.actual, x);
  }

  #endpointSeries(x: Exchange): Series | undefined {
    const { endpoint } = x;
    if (endpoint === undefined) return undefined;
    let series = this.#byEndpoint.get(endpoint);
    if (series === undefined) {
      const labels = { direction: "outbound", ...endpointLabels(endpoint, x.backend, this.#isLocal(endpoint)) };
      series = new Series(this.#options.metrics, labels);
      this.#byEndpoint.set(endpoint, series);
    }
    return series;
  }

  #backend(rule: RuleSeries, x: Exchange, choice: OutboundChoice, backend: Backend): void {
    if (wasAbandoned(x)) return;
    const from = x.dispatchedAt > 0 ? x.dispatchedAt : x.startedAt;
    const series = this.#backendSeries(rule, backend);
    series.ended(statusFor(x, choice), routeError(x), (this.#now() - from) / 1_000);
  }

  #backendSeries(rule: RuleSeries, backend: Backend): BackendSeries {
    let series = rule.backends.get(backend);
    if (series === undefined) {
      series = new BackendSeries(this.#options.metrics, rule.route, backend);
      rule.backends.set(backend, series);
    }
    return series;
  }

  #profile(series: ProfileSeries, x: Exchange): void {
    const status = endpointStatus(x);
    if (status === undefined && x.outcome === "client-gone") return;
    if (hadNoContent(x, status)) series.began(status, this.#now() - x.startedAt);
    series.ended(status, hasFailed(x, status, isCall(x)), x.grpcStatus, endpointError(x));
  }

  #rule(x: Exchange, choice: OutboundChoice): RuleSeries {
    let found = this.#byRule.get(choice.rule);
    if (found !== undefined) return found;
    const { metrics } = this.#options;
    const { route, rule, http } = choice;
    const profile = http.canonical === undefined ? undefined : profileLabels(http.canonical, route.labels);
    found = {
      route: new RouteSeries(metrics, rule.classify.kind === "grpc", x.judge ?? route.ref, route.ref),
      backends: new Map(),
      profile: profile && {
        effective: new ProfileSeries(metrics, profile, false),
        actual: new ProfileSeries(metrics, profile, true),
      },
    };
    this.#byRule.set(choice.rule, found);
    return found;
  }

  /** The end of a request, at whom it was dispatched to. */
  #count(x: Exchange): void {
    const series = this.#request(x);
    if (series === undefined) return;
    const grpc = isCall(x);
    const status = endpointStatus(x);
    // A request whose client went away before any answer has none, and is no failure of the endpoint.
    if (status === undefined && x.outcome === "client-gone") return;
    if (hadNoContent(x, status)) series.began(status, this.#now() - latencyFrom(x));
    series.ended(status, hasFailed(x, status, grpc), grpc ? grpcCode(x) : undefined, endpointError(x));
  }

  #tap(x: Exchange): void {
    const { direction, runtime, identity, tapped } = this.#options;
    const inbound = direction === "inbound";
    const own = identity();
    const endpoint = x.endpoint === undefined || this.#isLocal(x.endpoint) ? undefined : x.endpoint;
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
      destinationIdentity: inbound ? own?.name : endpoint?.identity?.id,
      tls: inbound ? x.peer.client.tls !== "none" : endpoint?.identity !== undefined,
      route: x.route === undefined ? "" : describe(x.route),
      latencyMs: this.#now() - x.startedAt,
      requestBytes: x.requestBytes,
      responseBytes: x.responseBytes,
    });
  }

  #isLocal({ address }: Endpoint): boolean {
    return this.#options.localIps?.has(address.ip) === true;
  }

  #now(): number {
    return this.#options.runtime.clock.now();
  }
}

const HTTP = { kind: "http" } as const;

/** Whether a request is one of gRPC: by its route, or as it says itself. */
function isCall(x: Exchange): boolean {
  return x.choice?.rule.classify.kind === "grpc" || isGrpc(x.request);
}

function hasFailed(x: Exchange, status: number | undefined, grpc: boolean): boolean {
  if (status === undefined || x.outcome === "endpoint-failed") return true;
  const code = x.outcome === "refused" && grpc ? grpcCode(x) : x.grpcStatus;
  return isFailure(x.choice?.rule.classify ?? HTTP, grpc, status, code);
}

/** The client left before there was any answer: Linkerd counts no end of it. */
function wasAbandoned(x: Exchange): boolean {
  return x.outcome === "client-gone" && x.response === undefined;
}

/**
 * Whether an answer's time is yet to be noted at its end: what was made of a failure has no content, and a client may leave
 * between head and content. Content that broke before its first frame has no time.
 */
function hadNoContent(x: Exchange, status: number | undefined): status is number {
  return status !== undefined && !x.bodyBegun && (x.response === undefined || x.outcome !== "endpoint-failed");
}

function latencyFrom(x: Exchange): number {
  return x.dispatchedAt > 0 ? x.dispatchedAt : x.startedAt;
}

function statusFor(x: Exchange, choice: OutboundChoice): number | undefined {
  if (choice.rule.classify.kind !== "grpc") return routeStatus(x);
  return routeError(x) === "" && x.outcome !== "client-gone" ? grpcCode(x) : x.grpcStatus;
}

function describe(ref: ResourceRef): string {
  return ref.kind === "default" ? `default.${ref.name}` : `${ref.kind}.${ref.namespace}.${ref.name}`;
}

function profileLabels(canonical: string, route: Labels): Labels {
  const labels: Record<string, string> = { direction: "outbound", dst: canonical };
  for (const name of Object.keys(route).sort()) labels[`rt_${name}`] = route[name] ?? "";
  return labels;
}
