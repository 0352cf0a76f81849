import {
  COARSE_SECONDS_BUCKETS,
  DETECT_SECONDS_BUCKETS,
  FINE_SECONDS_BUCKETS,
  LATENCY_MS_BUCKETS,
  QUEUE_SECONDS_BUCKETS,
} from "../../proxy/core/metrics.ts";

/**
 * linkerd2-proxy prints its page with two encoders, and `sum by (le)` groups on text: `1` of one and `1.0` of the other
 * are two series. Each family therefore keeps the encoder it has there.
 */
export type Encoder = "legacy" | "registry";

/** One family of the page. */
export interface Family {
  /** As queried: with unit and, for counters of the registry encoder, `_total`. Histograms without `_bucket`. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly encoder: Encoder;
  readonly help: string;
  /** Printed as `# UNIT` by the registry encoder. */
  readonly unit: "seconds" | "bytes" | undefined;
  /** Upper bounds without +Inf; empty unless a histogram. */
  readonly buckets: readonly number[];
  /** Observations are cut to whole numbers before they are counted and summed. */
  readonly whole: boolean;
  /** Values print with a fraction even when they have none, as Rust's floats do. */
  readonly float: boolean;
  /**
   * `idle`: a series that nobody holds and that has not changed for the retention time is dropped. linkerd2-proxy
   * does so for its legacy families only; we do it wherever labels name policy objects or peers, so that a page does
   * not grow with every object that ever existed. `forever`: labels come from a short fixed list.
   */
  readonly retain: "idle" | "forever";
}

type Options = Partial<Pick<Family, "unit" | "buckets" | "whole" | "float" | "retain">>;

function family(encoder: Encoder, type: Family["type"], name: string, help: string, options: Options): Family {
  return {
    name,
    type,
    encoder,
    help,
    unit: options.unit,
    buckets: options.buckets ?? [],
    whole: options.whole ?? false,
    float: options.float ?? false,
    retain: options.retain ?? "idle",
  };
}

const legacy = (type: Family["type"], name: string, help: string, options: Options = {}): Family =>
  family("legacy", type, name, help, options);

const registry = (type: Family["type"], name: string, help: string, options: Options = {}): Family =>
  family("registry", type, name, help, options);

const latencyMs = (name: string, help: string): Family =>
  legacy("histogram", name, help, { buckets: LATENCY_MS_BUCKETS, whole: true });

const seconds = (name: string, help: string, buckets: readonly number[]): Family =>
  registry("histogram", name, help, { unit: "seconds", buckets });

const fixed = { retain: "forever" } as const;

function inboundRoute(kind: "http" | "grpc"): Family[] {
  const prefix = `inbound_${kind}`;
  return [
    registry("counter", `${prefix}_requests_total`, "Permitted requests dispatched"),
    registry("counter", `${prefix}_statuses_total`, "Finished responses by status"),
    seconds(`${prefix}_request_duration_seconds`, "From request head to response end", FINE_SECONDS_BUCKETS),
  ];
}

function outboundRoute(kind: "http" | "grpc"): Family[] {
  const prefix = `outbound_${kind}_route`;
  return [
    registry("counter", `${prefix}_request_statuses_total`, "Finished requests after retries"),
    seconds(
      `${prefix}_request_duration_seconds`,
      "From request head to response end, retries included",
      COARSE_SECONDS_BUCKETS,
    ),
    registry("counter", `${prefix}_retry_requests_total`, "Retry attempts sent"),
    registry("counter", `${prefix}_retry_successes_total`, "Retries that ended with an answer not to be retried"),
    registry("counter", `${prefix}_retry_limit_exceeded_total`, "Retries given up because the attempts were used up"),
    registry("counter", `${prefix}_retry_overflow_total`, "Retries given up because no endpoint was ready"),
    registry("counter", `${prefix}_backend_requests_total`, "Requests sent to a backend, per attempt"),
    registry("counter", `${prefix}_backend_response_statuses_total`, "Finished responses of a backend, per attempt"),
    seconds(
      `${prefix}_backend_response_duration_seconds`,
      "From request end to response end, per attempt",
      FINE_SECONDS_BUCKETS,
    ),
  ];
}

function balancer(prefix: string): Family[] {
  return [
    registry("gauge", `${prefix}_endpoints`, "Endpoints by readiness"),
    registry("gauge", `${prefix}_p2c_endpoints`, "Endpoints known"),
    registry("counter", `${prefix}_p2c_updates_total`, "Discovery updates applied"),
    registry("gauge", `${prefix}_queue_length`, "Requests waiting for a ready endpoint"),
    registry("counter", `${prefix}_queue_requests_total`, "Requests that entered the queue"),
    seconds(`${prefix}_queue_latency_seconds`, "Time in the queue", QUEUE_SECONDS_BUCKETS),
    registry("counter", `${prefix}_queue_gate_open_total`, "Times that fail-fast ended; starts at 1"),
    registry("counter", `${prefix}_queue_gate_shut_total`, "Times that fail-fast began"),
  ];
}

function detection(prefix: string): Family[] {
  return [
    seconds(`${prefix}_tcp_detect_http_duration_seconds`, "Time spent on protocol detection", DETECT_SECONDS_BUCKETS),
    registry("counter", `${prefix}_tcp_detect_http_results_total`, "Outcomes of protocol detection"),
  ];
}

/**
 * Every family of the page, in the order in which it is printed: inbound, outbound and shared families of the legacy
 * encoder, then the registry's, then our own. Names, label names and buckets are linkerd2-proxy's; a help text is free.
 */
export const FAMILIES: readonly Family[] = [
  legacy("counter", "inbound_http_authz_allow_total", "Inbound requests authorized"),
  legacy("counter", "inbound_http_authz_deny_total", "Inbound requests denied"),
  legacy("counter", "inbound_http_route_not_found_total", "Inbound requests without a matching route"),
  legacy("counter", "inbound_http_local_ratelimit_total", "Inbound requests over the rate limit"),
  legacy("counter", "inbound_tcp_authz_allow_total", "Inbound connections authorized"),
  legacy("counter", "inbound_tcp_authz_deny_total", "Inbound connections denied"),
  legacy("counter", "inbound_tcp_authz_terminate_total", "Inbound connections ended by a change of policy"),
  legacy("counter", "inbound_http_errors_total", "Inbound requests that the proxy failed"),
  legacy("counter", "inbound_tcp_errors_total", "Inbound connections that the proxy failed"),
  legacy("counter", "outbound_http_errors_total", "Outbound requests that the proxy failed", fixed),
  legacy("counter", "outbound_tcp_errors_total", "Outbound connections that the proxy failed"),
  legacy("counter", "request_total", "HTTP requests"),
  legacy("counter", "response_total", "Finished HTTP responses"),
  latencyMs("response_latency_ms", "From dispatch to the first frame of the response body, milliseconds"),
  legacy("counter", "route_request_total", "HTTP requests of a profile route"),
  legacy("counter", "route_response_total", "Finished HTTP responses of a profile route"),
  latencyMs("route_response_latency_ms", "Response latency of a profile route, milliseconds"),
  legacy("counter", "route_actual_request_total", "HTTP requests of a profile route, per attempt"),
  legacy("counter", "route_actual_response_total", "Finished HTTP responses of a profile route, per attempt"),
  legacy("counter", "control_request_total", "Requests to the control plane", fixed),
  legacy("counter", "control_response_total", "Finished responses of the control plane", fixed),
  legacy("histogram", "control_response_latency_ms", "Response latency of the control plane, milliseconds", {
    buckets: LATENCY_MS_BUCKETS,
    whole: true,
    retain: "forever",
  }),
  legacy("counter", "tcp_open_total", "Connections opened"),
  legacy("gauge", "tcp_open_connections", "Connections open"),
  legacy("counter", "tcp_read_bytes_total", "Bytes read from peers, without TLS framing"),
  legacy("counter", "tcp_write_bytes_total", "Bytes written to peers, without TLS framing"),
  legacy("counter", "tcp_close_total", "Connections closed"),

  ...inboundRoute("http"),
  ...inboundRoute("grpc"),
  ...detection("inbound"),
  registry("counter", "inbound_tcp_transport_header_connections_total", "Connections with a transport header"),
  ...outboundRoute("http"),
  ...outboundRoute("grpc"),
  ...detection("outbound"),
  registry("counter", "outbound_tcp_protocol_connections_total", "Connections by configured protocol"),
  registry("counter", "outbound_tcp_route_open_total", "Connections opened on opaque routes"),
  registry("counter", "outbound_tcp_route_close_total", "Connections closed on opaque routes"),
  registry("counter", "outbound_tls_route_open_total", "Connections opened on TLS routes"),
  registry("counter", "outbound_tls_route_close_total", "Connections closed on TLS routes"),
  registry("counter", "outbound_tcp_transfer_cost_bytes_total", "Bytes by zone", { unit: "bytes", retain: "forever" }),
  ...balancer("outbound_http_balancer"),
  ...balancer("outbound_tcp_balancer"),
  ...balancer("outbound_tls_balancer"),
  registry("gauge", "control_identity_cert_expiration_timestamp_seconds", "When the certificate expires", {
    unit: "seconds",
    float: true,
    retain: "forever",
  }),
  registry("gauge", "control_identity_cert_refresh_timestamp_seconds", "When the certificate was last renewed", {
    unit: "seconds",
    float: true,
    retain: "forever",
  }),
  registry("counter", "control_identity_cert_refreshes_total", "Renewals of the certificate", fixed),
  registry("gauge", "process_start_time_seconds", "When the process started, Unix time", {
    unit: "seconds",
    float: true,
    retain: "forever",
  }),
  registry("counter", "process_uptime_seconds_total", "How long the process has run", {
    unit: "seconds",
    float: true,
    retain: "forever",
  }),
  registry("counter", "process_cpu_seconds_total", "User and system CPU time", {
    unit: "seconds",
    float: true,
    retain: "forever",
  }),
  registry("gauge", "process_clock_time_seconds", "The host's wall clock, Unix time", { unit: "seconds", ...fixed }),
  registry("gauge", "process_virtual_memory_bytes", "Virtual memory", { unit: "bytes", ...fixed }),
  registry("gauge", "process_resident_memory_bytes", "Resident memory", { unit: "bytes", ...fixed }),
  registry("gauge", "process_open_fds", "Open file descriptors", fixed),
  registry("gauge", "process_max_fds", "Limit of open file descriptors", fixed),
  registry("gauge", "process_threads", "Operating system threads", fixed),
  registry("gauge", "proxy_build_info", "What is running here", fixed),

  registry("counter", "mesh_agent_dns_queries_total", "Queries to the DNS stub, by result", fixed),
  registry(
    "gauge",
    "mesh_agent_enroller_hosts",
    "Of an enroller: hosts attached to this replica, and those that are silent and held in service by the partition guard",
    fixed,
  ),
  registry(
    "counter",
    "mesh_agent_http_refused_total",
    "Messages refused for breaking HTTP's rules, before they were requests",
    fixed,
  ),
  registry(
    "gauge",
    "mesh_agent_interception_works",
    "1 while the last probe of this family came to the agent through the rules",
    fixed,
  ),
  registry(
    "counter",
    "mesh_agent_interception_reasserted_total",
    "How often the rules were asked for again because probes did not come to the agent",
    fixed,
  ),
  registry("counter", "mesh_agent_metrics_overflow_total", "Label sets refused because their family was full", fixed),
];

const BY_NAME: ReadonlyMap<string, Family> = new Map(FAMILIES.map((each) => [each.name, each]));

/** @throws Error if there is no such family: a name that is not in the table is a bug. */
export function familyNamed(name: string): Family {
  const found = BY_NAME.get(name);
  if (found === undefined) throw new Error(`no such metric family: ${name}`);
  return found;
}
