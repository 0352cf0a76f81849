import {
  type Counter,
  FINE_SECONDS_BUCKETS,
  type Histogram,
  type Labels,
  type MetricsRegistry,
} from "../proxy/core/metrics.ts";
import type { ResourceRef } from "../proxy/policy/index.ts";
import { AnswerSeries, labelOf } from "./answer-series.ts";
import { routeLabels } from "./labels.ts";

/** `inbound_http_*` or, under a Server whose protocol is gRPC, `inbound_grpc_*` of one route (telemetry.md §1.4). */
export class InboundRouteSeries {
  readonly requests: Counter;
  readonly #duration: Histogram;
  readonly #statuses: AnswerSeries<Counter>;

  constructor(metrics: MetricsRegistry, grpc: boolean, server: ResourceRef, port: number, route: ResourceRef) {
    const prefix = grpc ? "inbound_grpc" : "inbound_http";
    const labels: Labels = {
      parent_group: server.group,
      parent_kind: server.kind.toLowerCase(),
      parent_name: server.name,
      parent_port: String(port),
      ...routeLabels(route, false),
    };
    this.requests = metrics.counter(`${prefix}_requests_total`, labels);
    this.#duration = metrics.histogram(`${prefix}_request_duration_seconds`, labels, FINE_SECONDS_BUCKETS);
    this.#statuses = new AnswerSeries(({ status }) =>
      metrics.counter(`${prefix}_statuses_total`, { ...labels, status: labelOf(status) }),
    );
  }

  /** @param status - An HTTP status or gRPC's number; undefined if there was no answer. */
  ended(status: number | undefined, seconds: number): void {
    this.#statuses.of(status, false, undefined, "").add(1);
    this.#duration.observe(seconds);
  }
}

/**
 * Whether a request came as far as its route: a policy's own answers (limits, redirects, injected failures) are given
 * before, and appear among the errors only.
 */
export function wasRouted(reason: string | undefined, dispatchedAt: number): boolean {
  switch (reason) {
    case "rate-limited":
    case "redirected":
    case "injected":
      return false;
    case "unexpected":
      return dispatchedAt > 0;
    default:
      return true;
  }
}

/** Whether it came as far as the application's client: one that waited in vain for a connection did not. */
export function wasForwarded(reason: string | undefined): boolean {
  return reason !== "failfast" && reason !== "load-shed";
}
