import type { httpRoute, outbound } from "../../proto/index.ts";
import { durationMessage, parsePolicyDurationMs } from "./duration.ts";
import type { Init } from "./message.ts";

type Annotations = Readonly<Record<string, string>>;
export type TimeoutsMessage = Init<typeof httpRoute.TimeoutsSchema>;
export type AccrualMessage = Init<typeof outbound.FailureAccrualSchema>;
export type LoadMessage = NonNullable<Init<typeof outbound.Backend_BalanceP2cSchema>["load"]>;
type HttpConditions = Init<typeof outbound.HttpRoute_Retry_ConditionsSchema>;
type GrpcConditions = Init<typeof outbound.GrpcRoute_Retry_ConditionsSchema>;

/** A value that cannot be read. The group it belongs to is ignored on a Service, and a route with it is dropped. */
export class BadAnnotation extends Error {
  override readonly name = "BadAnnotation";
}

/** Retries as annotations ask for them, for one kind of routes. */
export interface RetryWish<Conditions> {
  readonly maxRetries: number;
  readonly timeoutMs: number | undefined;
  readonly conditions: Conditions;
}

export type HttpRetryWish = RetryWish<HttpConditions>;
export type GrpcRetryWish = RetryWish<GrpcConditions>;

/** Reads a group of annotations, ignoring it whole if one value is bad: the rule for Services. */
export function lenient<T>(read: (annotations: Annotations) => T, annotations: Annotations): T | undefined {
  try {
    return read(annotations);
  } catch (error) {
    if (error instanceof BadAnnotation) return undefined;
    throw error;
  }
}

/**
 * `timeout.linkerd.io/{request,response,idle}`. Zero is not none: it goes to proxies as it is.
 *
 * @returns undefined if none is set.
 * @throws BadAnnotation
 */
export function readTimeouts(annotations: Annotations): TimeoutsMessage | undefined {
  const read = (name: string) => {
    const ms = durationAt(annotations, `timeout.linkerd.io/${name}`);
    return ms === undefined ? undefined : durationMessage(ms);
  };
  const [request, response, idle] = [read("request"), read("response"), read("idle")];
  if (request === undefined && response === undefined && idle === undefined) return undefined;
  return { ...(request && { request }), ...(response && { response }), ...(idle && { idle }) };
}

/**
 * `retry.linkerd.io/{limit,timeout,http}`, for HTTP routes. Without conditions nothing is retried by status.
 *
 * @returns undefined if none is set.
 * @throws BadAnnotation
 */
export function readHttpRetry(annotations: Annotations): HttpRetryWish | undefined {
  return readRetry(annotations, "http", httpConditions);
}

/** As {@link readHttpRetry} with `retry.linkerd.io/grpc`, for gRPC routes. Neither looks at the other's conditions. */
export function readGrpcRetry(annotations: Annotations): GrpcRetryWish | undefined {
  return readRetry(annotations, "grpc", grpcConditions);
}

/** What a Service or an EgressNetwork says of retries: bad conditions of one kind do not cost the other. */
export function retryDefaults(annotations: Annotations): {
  readonly httpRetry: HttpRetryWish | undefined;
  readonly grpcRetry: GrpcRetryWish | undefined;
} {
  return { httpRetry: lenient(readHttpRetry, annotations), grpcRetry: lenient(readGrpcRetry, annotations) };
}

function readRetry<C>(
  annotations: Annotations,
  kind: "http" | "grpc",
  conditions: (items: readonly string[]) => C,
): RetryWish<C> | undefined {
  // Zero is as good as absent, for both.
  const limit = integerAt(annotations, "retry.linkerd.io/limit", 65535) || undefined;
  const timeoutMs = durationAt(annotations, "retry.linkerd.io/timeout") || undefined;
  const text = annotations[`retry.linkerd.io/${kind}`];
  const found = conditions(text === undefined ? [] : text.split(","));
  if (limit === undefined && timeoutMs === undefined && text === undefined) return undefined;
  return { maxRetries: limit ?? 1, timeoutMs, conditions: found };
}

/**
 * `balancer.linkerd.io/failure-accrual` and what belongs to it.
 *
 * @returns undefined if it is not set.
 * @throws BadAnnotation
 */
export function readAccrual(annotations: Annotations): AccrualMessage | undefined {
  const kind = annotations["balancer.linkerd.io/failure-accrual"];
  if (kind === undefined) return undefined;
  const consecutive = "balancer.linkerd.io/failure-accrual-consecutive-";
  const unified = "balancer.alpha.linkerd.io/failure-accrual-";
  const maxFailures = integerAt(annotations, `${consecutive}max-failures`, 0xffffffff) ?? 7;
  const minMs = durationAt(annotations, `${consecutive}min-penalty`) ?? 1000;
  const maxMs = durationAt(annotations, `${consecutive}max-penalty`) ?? 60_000;
  const jitterRatio = numberAt(annotations, `${consecutive}jitter-ratio`, 100) ?? 0.5;
  if (minMs > maxMs || maxMs === 0) throw new BadAnnotation(`${consecutive}min-penalty is above max-penalty`);
  const backoff = { minBackoff: durationMessage(minMs), maxBackoff: durationMessage(maxMs), jitterRatio };
  switch (kind) {
    case "consecutive":
      return { kind: { case: "consecutiveFailures", value: { maxFailures, backoff } } };
    case "unified": {
      const threshold = numberAt(annotations, `${unified}success-rate-threshold`, 1) ?? 0.8;
      const decayMs = durationAt(annotations, `${unified}success-rate-window`) ?? 10_000;
      // A threshold of zero turns this half off, and its other bounds with it.
      const [minDecayMs, maxMinRequests] = threshold === 0 ? [1, 0xffffffff] : [10, 1_000_000];
      if (decayMs < minDecayMs) throw new BadAnnotation(`${unified}success-rate-window is below ${minDecayMs}ms`);
      return {
        kind: {
          case: "unified",
          value: {
            successRateThreshold: threshold,
            decay: durationMessage(decayMs),
            minRequests: integerAt(annotations, `${unified}success-rate-min-requests`, maxMinRequests) ?? 5,
            maxConsecutiveFailures: maxFailures,
            // Read apart: a bad value here does not cost the rest.
            backoff: { ...backoff, respectRetryAfterHint: lenient(readHonor, annotations) ?? false },
          },
        },
      };
    }
    default:
      throw new BadAnnotation(`unknown failure accrual ${kind}`);
  }
}

function readHonor(annotations: Annotations): boolean {
  return booleanAt(annotations, "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after");
}

const PEAK_EWMA = { defaultRtt: durationMessage(30), decay: durationMessage(10_000) };

/**
 * How endpoints are compared: peak EWMA, or the kind that remembers failures.
 *
 * @throws BadAnnotation
 */
export function readLoad(annotations: Annotations): LoadMessage {
  const prefix = "balancer.alpha.linkerd.io/";
  if (!booleanAt(annotations, `${prefix}penalize-failures`)) return { case: "peakEwma", value: PEAK_EWMA };
  const penalty = durationAt(annotations, `${prefix}load-biaser-penalty`) ?? 5000;
  if (penalty > 0xffffffff) throw new BadAnnotation(`${prefix}load-biaser-penalty is above 49.7 days`);
  const maxRetryAfter = durationAt(annotations, `${prefix}load-biaser-max-retry-after`) ?? 300_000;
  return {
    case: "penaltyPeakEwma",
    value: {
      ...PEAK_EWMA,
      penalty: durationMessage(penalty),
      // Nobody can set it, and proxies fold it into the decay above.
      penaltyDecay: durationMessage(10_000),
      maxRetryAfter: durationMessage(maxRetryAfter),
    },
  };
}

/** What balancers do where nothing else is said, or what is said cannot be read. */
export const DEFAULT_LOAD: LoadMessage = { case: "peakEwma", value: PEAK_EWMA };

// Items without blanks: one with a blank is no item, and neither is an empty one.
function httpConditions(items: readonly string[]): HttpConditions {
  const statusRanges = items.map((item) => {
    if (item.toLowerCase() === "5xx") return { start: 500, end: 599 };
    if (item.toLowerCase() === "gateway-error") return { start: 502, end: 504 };
    const match = /^(\d{3})(?:-(\d{3}))?$/.exec(item);
    const start = Number(match?.[1]);
    const end = Number(match?.[2] ?? match?.[1]);
    if (match === null || start < 100 || end > 599 || start > end) throw new BadAnnotation(`not a status: ${item}`);
    return { start, end };
  });
  return { statusRanges };
}

function grpcConditions(items: readonly string[]): GrpcConditions {
  const conditions: { -readonly [K in keyof GrpcConditions]?: boolean } = {};
  for (const item of items) {
    switch (item.toLowerCase()) {
      case "cancelled":
        conditions.cancelled = true;
        break;
      case "deadline-exceeded":
        conditions.deadineExceeded = true;
        break;
      case "internal":
        conditions.internal = true;
        break;
      case "resource-exhausted":
        conditions.resourceExhausted = true;
        break;
      case "unavailable":
        conditions.unavailable = true;
        break;
      default:
        throw new BadAnnotation(`not a gRPC condition: ${item}`);
    }
  }
  return conditions as GrpcConditions;
}

function durationAt(annotations: Annotations, key: string): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const ms = parsePolicyDurationMs(text);
  if (ms === undefined) throw new BadAnnotation(`${key} is not a duration: ${text}`);
  return ms;
}

function integerAt(annotations: Annotations, key: string, max: number): number | undefined {
  const value = numberAt(annotations, key, max);
  if (value !== undefined && !Number.isInteger(value)) throw new BadAnnotation(`${key} is not a whole number`);
  return value;
}

function numberAt(annotations: Annotations, key: string, max: number): number | undefined {
  const text = annotations[key]?.trim();
  if (text === undefined) return undefined;
  if (!/^\d+(?:\.\d+)?$/.test(text) || Number(text) > max) throw new BadAnnotation(`${key} is out of range: ${text}`);
  return Number(text);
}

/** The tokens that Go's ParseBool takes; absent is false. */
function booleanAt(annotations: Annotations, key: string): boolean {
  const text = annotations[key]?.trim();
  if (text === undefined || ["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  throw new BadAnnotation(`${key} is not a boolean: ${text}`);
}
