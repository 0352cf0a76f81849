import type { opaqueRoute, outbound, tlsRoute } from "../../proto/index.ts";
import {
  type Backend,
  type Backoff,
  type ConnectionFilter,
  type ConnectionRoute,
  type Dispatch,
  type Distribution,
  type FailureAccrual,
  type Filter,
  INVALID_OUTBOUND,
  type LoadConfig,
  makeBackend,
  type OutboundHttp,
  type OutboundPolicy,
  type OutboundRoute,
  type OutboundRule,
  type ResourceRef,
  type RetryPolicy,
  type RouteBackend,
  type SniMatch,
  type Timeouts,
} from "../policy/index.ts";
import { decodeDuration, decodeTimeout, requiredDuration } from "./duration.ts";
import { decodeEndpoint, destinationPath } from "./endpoints.ts";
import type { Decoded } from "./inbound-policy.ts";
import { InvalidMessage, required } from "./invalid.ts";
import { decodeRef } from "./ref.ts";
import {
  ANY_CALL,
  decodeGrpcFailure,
  decodeGrpcMatch,
  decodeHeaderChanges,
  decodeHost,
  decodeHttpFailure,
  decodeHttpMatch,
  decodeRedirect,
  joinSuffix,
} from "./route.ts";

/**
 * Makes a destination's policy of what `OutboundPolicies.Watch` sent. Anything that makes no sense, anywhere, replaces
 * all of it by the policy that fails every request.
 * @see outbound.md §3.1, §3.2
 */
export function decodeOutboundPolicy(message: outbound.OutboundPolicy): Decoded<OutboundPolicy> {
  try {
    return { policy: decodePolicy(message), invalid: undefined };
  } catch (error) {
    if (!(error instanceof InvalidMessage)) throw error;
    return { policy: INVALID_OUTBOUND, invalid: error.message };
  }
}

function decodePolicy(message: outbound.OutboundPolicy): OutboundPolicy {
  const ref = decodeRef(message.metadata, "policy");
  const kind = message.protocol?.kind;
  const base = { source: "api", ref, http1: undefined, http2: undefined, opaque: undefined, tls: [] } as const;
  switch (kind?.case) {
    case "detect": {
      const { timeout, http1, http2, opaque } = kind.value;
      // Required, and then not used: how long to detect is our own configuration's affair.
      requiredDuration(timeout, "detect timeout");
      return {
        ...base,
        kind: "detect",
        http1: decodeHttp(required(http1, "http1"), ref),
        http2: decodeHttp(required(http2, "http2"), ref),
        opaque: decodeOpaque(required(opaque, "opaque"), ref),
      };
    }
    case "http1":
      return { ...base, kind: "http1", http1: decodeHttp(kind.value, ref) };
    case "http2":
      return { ...base, kind: "http2", http2: decodeHttp(kind.value, ref) };
    case "grpc":
      return { ...base, kind: "grpc", http2: decodeGrpc(kind.value, ref) };
    case "opaque":
      return { ...base, kind: "opaque", opaque: decodeOpaque(kind.value, ref) };
    case "tls":
      return { ...base, kind: "tls", tls: kind.value.routes.map((route) => decodeTlsRoute(route, ref)) };
    default:
      throw new InvalidMessage("protocol is missing or not known");
  }
}

/* ---- HTTP ---- */

function decodeHttp(message: outbound.ProxyProtocol_Http1 | outbound.ProxyProtocol_Http2, parent: ResourceRef) {
  const accrual = decodeAccrual(message.failureAccrual);
  return httpOf(
    message.routes.map((route) => decodeHttpRoute(route, parent, accrual)),
    accrual,
  );
}

function decodeGrpc(message: outbound.ProxyProtocol_Grpc, parent: ResourceRef): OutboundHttp {
  const accrual = decodeAccrual(message.failureAccrual);
  return httpOf(
    message.routes.map((route) => decodeGrpcRoute(route, parent, accrual)),
    accrual,
  );
}

function httpOf(routes: readonly OutboundRoute[], failureAccrual: FailureAccrual | undefined): OutboundHttp {
  return { select: "best", routes, failureAccrual, retryBudget: undefined, canonical: undefined };
}

function decodeHttpRoute(
  message: outbound.HttpRoute,
  parent: ResourceRef,
  accrual: FailureAccrual | undefined,
): OutboundRoute {
  return {
    ref: decodeRef(message.metadata, "route"),
    hosts: message.hosts.map(decodeHost),
    rules: message.rules.map(
      (rule): OutboundRule => ({
        matches: rule.matches.map(decodeHttpMatch),
        filters: rule.filters.map(decodeHttpFilter),
        distribution: decodeDistribution(rule.backends, parent, accrual, decodeHttpFilter),
        timeouts: decodeTimeouts(rule),
        retry: rule.retry && decodeHttpRetry(rule.retry),
        budgetedRetry: false,
        classify: { kind: "http" },
        allowRequestHeaders: rule.allowL5dRequestHeaders,
      }),
    ),
    condition: undefined,
    labels: {},
  };
}

function decodeGrpcRoute(
  message: outbound.GrpcRoute,
  parent: ResourceRef,
  accrual: FailureAccrual | undefined,
): OutboundRoute {
  return {
    ref: decodeRef(message.metadata, "route"),
    hosts: message.hosts.map(decodeHost),
    rules: message.rules.map(
      (rule): OutboundRule => ({
        matches: rule.matches.length === 0 ? [ANY_CALL] : rule.matches.map(decodeGrpcMatch),
        filters: rule.filters.map(decodeGrpcFilter),
        distribution: decodeDistribution(rule.backends, parent, accrual, decodeGrpcFilter),
        timeouts: decodeTimeouts(rule),
        retry: rule.retry && decodeGrpcRetry(rule.retry),
        budgetedRetry: false,
        classify: { kind: "grpc" },
        allowRequestHeaders: rule.allowL5dRequestHeaders,
      }),
    ),
    condition: undefined,
    labels: {},
  };
}

// Not an invalid policy: only the requests that meet the filter fail.
const UNKNOWN_FILTER: Filter = {
  kind: "internal-error",
  message: "invalid client policy: client policy configured with unknown filter",
};

function decodeHttpFilter(message: outbound.HttpRoute_Filter): Filter {
  switch (message.kind.case) {
    case "failureInjector":
      return decodeHttpFailure(message.kind.value);
    case "requestHeaderModifier":
      return { kind: "request-headers", changes: decodeHeaderChanges(message.kind.value) };
    case "responseHeaderModifier":
      return { kind: "response-headers", changes: decodeHeaderChanges(message.kind.value) };
    case "redirect":
      return decodeRedirect(message.kind.value);
    default:
      return UNKNOWN_FILTER;
  }
}

function decodeGrpcFilter(message: outbound.GrpcRoute_Filter): Filter {
  switch (message.kind.case) {
    case "failureInjector":
      return decodeGrpcFailure(message.kind.value);
    case "requestHeaderModifier":
      return { kind: "request-headers", changes: decodeHeaderChanges(message.kind.value) };
    default:
      return UNKNOWN_FILTER;
  }
}

function decodeTimeouts(rule: outbound.HttpRoute_Rule | outbound.GrpcRoute_Rule): Timeouts {
  const { timeouts } = rule;
  return {
    // `requestTimeout` is what older controllers send.
    requestMs: decodeTimeout(timeouts?.request ?? rule.requestTimeout, "request timeout"),
    responseMs: decodeTimeout(timeouts?.response, "response timeout"),
    idleMs: decodeTimeout(timeouts?.idle, "idle timeout"),
    headersMs: undefined,
  };
}

function decodeHttpRetry(message: outbound.HttpRoute_Retry): RetryPolicy {
  const { statusRanges } = required(message.conditions, "retry conditions");
  for (const { start, end } of statusRanges) {
    if (start < 1 || end > 599 || start > end) throw new InvalidMessage(`retry statuses ${start}–${end} are not legal`);
  }
  const ranges = statusRanges.map(({ start, end }) => ({ start, end }));
  return { ...decodeRetry(message), statusRanges: ranges, grpcCodes: [] };
}

function decodeGrpcRetry(message: outbound.GrpcRoute_Retry): RetryPolicy {
  const on = required(message.conditions, "retry conditions");
  const grpcCodes: number[] = [];
  if (on.cancelled) grpcCodes.push(1);
  if (on.deadineExceeded) grpcCodes.push(4);
  if (on.resourceExhausted) grpcCodes.push(8);
  if (on.internal) grpcCodes.push(13);
  if (on.unavailable) grpcCodes.push(14);
  return { ...decodeRetry(message), statusRanges: [], grpcCodes };
}

function decodeRetry(message: outbound.HttpRoute_Retry | outbound.GrpcRoute_Retry) {
  if (message.maxRetries > 65_535) throw new InvalidMessage(`${message.maxRetries} retries are not legal`);
  return {
    maxRetries: message.maxRetries,
    maxRequestBytes: message.maxRequestBytes,
    timeoutMs: decodeTimeout(message.timeout, "retry timeout"),
    backoff: message.backoff && decodeBackoff(message.backoff),
  };
}

/* ---- backends ---- */

interface DistributionMessage<F> {
  readonly kind:
    | { readonly case: "empty" }
    | { readonly case: "firstAvailable"; readonly value: { readonly backends: readonly BackendMessage<F>[] } }
    | {
        readonly case: "randomAvailable";
        readonly value: {
          readonly backends: readonly { readonly backend?: BackendMessage<F> | undefined; readonly weight: number }[];
        };
      }
    | { readonly case: undefined };
}

interface BackendMessage<F> {
  readonly backend?: outbound.Backend | undefined;
  readonly filters: readonly F[];
}

function decodeDistribution<Message, F>(
  message: DistributionMessage<Message> | undefined,
  parent: ResourceRef,
  accrual: FailureAccrual | undefined,
  decodeFilter: (message: Message) => F,
  opaque = false,
): Distribution<F> {
  const decodeOne = (each: BackendMessage<Message> | undefined, weight: number): RouteBackend<F> => ({
    backend: decodeBackend(required(each?.backend, "backend"), parent, accrual, opaque),
    weight,
    filters: (each?.filters ?? []).map(decodeFilter),
  });
  const kind = message?.kind;
  switch (kind?.case) {
    case "empty":
      return { kind: "empty" };
    case "firstAvailable": {
      const backends = kind.value.backends.map((each) => decodeOne(each, 1));
      if (backends.length === 0) throw new InvalidMessage("distribution without backends");
      return { kind: "first-available", backends };
    }
    case "randomAvailable": {
      const backends = kind.value.backends.map((each) => decodeOne(each.backend, each.weight));
      if (backends.length === 0) throw new InvalidMessage("distribution without backends");
      // A single entry's weight does not count.
      if (backends.length > 1 && backends.every(({ weight }) => weight === 0)) {
        throw new InvalidMessage("distribution whose weights are all 0");
      }
      return { kind: "random-available", backends };
    }
    default:
      throw new InvalidMessage("distribution is missing or not known");
  }
}

function decodeBackend(
  message: outbound.Backend,
  parent: ResourceRef,
  accrual: FailureAccrual | undefined,
  opaque: boolean,
): Backend {
  const ref = decodeRef(message.metadata, "backend");
  // Required, and then not used: queues are our own configuration's affair.
  requiredDuration(required(message.queue, "queue").failfastTimeout, "fail-fast timeout");
  const dispatch = decodeDispatch(message, ref, opaque);
  return makeBackend(parent, ref, dispatch, dispatch.kind === "balancer" ? accrual : undefined);
}

function decodeDispatch(message: outbound.Backend, ref: ResourceRef, opaque: boolean): Dispatch {
  const { kind } = message;
  switch (kind.case) {
    case "balancer":
      return decodeBalancer(kind.value, opaque);
    case "forward": {
      const endpoint = required(decodeEndpoint(kind.value, {}), "forward address");
      if (endpoint.address.port === 0) throw new InvalidMessage("forward to port 0");
      return { kind: "forward", endpoint };
    }
    default:
      return { kind: "fail", message: `backend for ${ref.kind} ${ref.namespace}/${ref.name} has no dispatcher` };
  }
}

function decodeBalancer(message: outbound.Backend_BalanceP2c, opaque: boolean): Dispatch {
  const text = required(message.discovery?.kind.value?.path, "balancer discovery");
  const path = destinationPath(text);
  if (path === undefined) throw new InvalidMessage(`balancer path is not name:port: ${text}`);
  return { kind: "balancer", path, load: decodeLoad(message, opaque) };
}

const DEFAULT_RTT_MS = 30;
const DEFAULT_DECAY_MS = 10_000;

function decodeLoad(message: outbound.Backend_BalanceP2c, opaque: boolean): LoadConfig {
  const { load } = message;
  switch (load.case) {
    case "peakEwma":
      return {
        kind: "peak-ewma",
        defaultRttMs: requiredDuration(load.value.defaultRtt, "default RTT"),
        decayMs: requiredDuration(load.value.decay, "decay"),
      };
    case "penaltyPeakEwma": {
      const defaultRttMs = decodeDuration(load.value.defaultRtt, "default RTT") ?? DEFAULT_RTT_MS;
      const decayMs = decodeDuration(load.value.decay, "decay") ?? DEFAULT_DECAY_MS;
      const penaltyMs = decodeDuration(load.value.penalty, "penalty") ?? 5_000;
      const maxRetryAfterMs = decodeDuration(load.value.maxRetryAfter, "maximal retry-after") ?? 300_000;
      // There are no responses to punish on an opaque connection.
      if (opaque) return { kind: "peak-ewma", defaultRttMs, decayMs };
      return { kind: "penalty-peak-ewma", defaultRttMs, decayMs, penaltyMs, maxRetryAfterMs };
    }
    default:
      throw new InvalidMessage("balancer load is missing or not known");
  }
}

function decodeAccrual(message: outbound.FailureAccrual | undefined): FailureAccrual | undefined {
  if (message === undefined) return undefined;
  const { kind } = message;
  // Linkerd's proxy does not read it: all endpoints of a pool may be set aside.
  const floor = message.ejection === undefined ? {} : { minReady: message.ejection.minReadyEndpoints };
  switch (kind.case) {
    case "consecutiveFailures":
      return {
        kind: "consecutive",
        maxFailures: kind.value.maxFailures,
        backoff: decodeBackoff(required(kind.value.backoff, "failure accrual backoff")),
        ...floor,
      };
    case "unified": {
      const { successRateThreshold, minRequests, maxConsecutiveFailures } = kind.value;
      const windowMs = decodeDuration(kind.value.decay, "failure accrual window") ?? 10_000;
      if (!(successRateThreshold >= 0 && successRateThreshold <= 1)) {
        throw new InvalidMessage("success rate threshold is not within 0 and 1");
      }
      if (successRateThreshold > 0 && windowMs < 10) throw new InvalidMessage("failure accrual window below 10 ms");
      if (minRequests > 1_000_000) throw new InvalidMessage("failure accrual needs too many requests");
      return {
        kind: "unified",
        successRateThreshold,
        windowMs,
        minRequests,
        maxConsecutiveFailures,
        backoff: decodeBackoff(required(kind.value.backoff, "failure accrual backoff")),
        ...floor,
      };
    }
    default:
      throw new InvalidMessage("failure accrual is empty or not known");
  }
}

function decodeBackoff(message: outbound.ExponentialBackoff): Backoff {
  const minMs = requiredDuration(message.minBackoff, "minimal backoff");
  const maxMs = requiredDuration(message.maxBackoff, "maximal backoff");
  const jitter = message.jitterRatio;
  if (minMs > maxMs || maxMs === 0) throw new InvalidMessage(`backoff from ${minMs} to ${maxMs} ms is not legal`);
  if (!(jitter >= 0 && jitter <= 100)) throw new InvalidMessage(`backoff jitter ${jitter} is not legal`);
  return { minMs, maxMs, jitter };
}

/* ---- connections ---- */

type ConnectionFilterMessage = {
  readonly kind:
    | { readonly case: "invalid"; readonly value: opaqueRoute.Invalid }
    | { readonly case: "forbidden"; readonly value: opaqueRoute.Forbidden }
    | { readonly case: undefined };
};

function decodeOpaque(message: outbound.ProxyProtocol_Opaque, parent: ResourceRef): ConnectionRoute | undefined {
  if (message.routes.length > 1) throw new InvalidMessage("more than one opaque route");
  const route = message.routes[0];
  return route && decodeConnectionRoute(route, [], parent);
}

function decodeTlsRoute(message: outbound.TlsRoute, parent: ResourceRef): ConnectionRoute {
  return decodeConnectionRoute(message, message.snis.map(decodeSni), parent);
}

function decodeConnectionRoute(
  message: outbound.OpaqueRoute | outbound.TlsRoute,
  snis: readonly SniMatch[],
  parent: ResourceRef,
): ConnectionRoute {
  const [rule, ...others] = message.rules;
  if (rule === undefined || others.length > 0) throw new InvalidMessage("route without exactly one rule");
  return {
    ref: decodeRef(message.metadata, "route"),
    snis,
    filters: rule.filters.map(decodeConnectionFilter),
    distribution: decodeDistribution<ConnectionFilterMessage, ConnectionFilter>(
      rule.backends,
      parent,
      undefined,
      decodeConnectionFilter,
      true,
    ),
  };
}

function decodeConnectionFilter(message: ConnectionFilterMessage): ConnectionFilter {
  switch (message.kind.case) {
    case "forbidden":
      return { kind: "forbidden" };
    case "invalid":
      return { kind: "invalid", message: message.kind.value.message };
    default:
      return { kind: "invalid", message: "unknown filter" };
  }
}

function decodeSni(message: tlsRoute.SniMatch): SniMatch {
  switch (message.match.case) {
    case "exact":
      return { kind: "exact", value: message.match.value };
    case "suffix":
      return { kind: "suffix", value: joinSuffix(message.match.value.reverseLabels) };
    default:
      throw new InvalidMessage("SNI match is empty");
  }
}
