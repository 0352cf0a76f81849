import type { HeaderList } from "../core/header.ts";
import type { Backoff, OutboundRule, RetryPolicy, Timeouts } from "./model.ts";

/** What holds for one request: the rule's, unless the application said otherwise. */
export interface RequestLimits {
  readonly timeouts: Timeouts;
  readonly retry: RetryPolicy | undefined;
}

// What the control plane sends, for rules without retry of their own.
const DEFAULT_MAX_REQUEST_BYTES = 65_536;
const DEFAULT_BACKOFF: Backoff = { minMs: 25, maxMs: 250, jitter: 1 };

const HEADERS = [
  "l5d-retry-http",
  "l5d-retry-grpc",
  "l5d-retry-limit",
  "l5d-retry-timeout",
  "l5d-timeout",
  "l5d-request-timeout",
  "l5d-response-timeout",
] as const;

type Given = Partial<Record<(typeof HEADERS)[number], string>>;

/**
 * Reads the timeouts and retries of a request. Only where the rule allows it do the application's headers count, and
 * only there are they removed.
 * @returns The rule itself where nothing is overridden: no allocation.
 * @see outbound.md §3.10
 */
export function requestLimits(rule: OutboundRule, headers: HeaderList): RequestLimits {
  if (!rule.allowRequestHeaders) return rule;
  let given: Given | undefined;
  for (let i = 0; i < headers.length; i++) {
    const lower = headers.names[i]?.lower as (typeof HEADERS)[number];
    if (!lower.startsWith("l5d-") || !HEADERS.includes(lower)) continue;
    given ??= {};
    given[lower] ??= headers.values[i] as string;
  }
  if (given === undefined) return rule;
  for (const name in given) headers.remove(name);
  return { timeouts: overrideTimeouts(rule.timeouts, given), retry: overrideRetry(rule.retry, given) };
}

function overrideTimeouts(timeouts: Timeouts, given: Given): Timeouts {
  return {
    ...timeouts,
    // The long name wins.
    requestMs: parseDuration(given["l5d-request-timeout"]) ?? parseDuration(given["l5d-timeout"]) ?? timeouts.requestMs,
    responseMs: parseDuration(given["l5d-response-timeout"]) ?? timeouts.responseMs,
  };
}

function overrideRetry(retry: RetryPolicy | undefined, given: Given): RetryPolicy | undefined {
  const statusRanges = parseStatuses(given["l5d-retry-http"]);
  const grpcCodes = parseGrpcCodes(given["l5d-retry-grpc"]);
  const maxRetries = parseInteger(given["l5d-retry-limit"]);
  const timeoutMs = parseDuration(given["l5d-retry-timeout"]);
  if (statusRanges === undefined && grpcCodes === undefined && maxRetries === undefined && timeoutMs === undefined) {
    return retry;
  }
  return {
    maxRetries: maxRetries ?? retry?.maxRetries ?? 1,
    maxRequestBytes: retry?.maxRequestBytes ?? DEFAULT_MAX_REQUEST_BYTES,
    statusRanges: statusRanges ?? retry?.statusRanges ?? [],
    grpcCodes: grpcCodes ?? retry?.grpcCodes ?? [],
    timeoutMs: timeoutMs ?? retry?.timeoutMs,
    backoff: retry === undefined ? DEFAULT_BACKOFF : retry.backoff,
  };
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `100ms`, `3s`, `0`; milliseconds. Anything else, fractions included, is as if it were not there. */
export function parseDuration(text: string | undefined): number | undefined {
  const match = text === undefined ? null : /^\s*(?:(\d{1,15})(ms|s|m|h|d)|0)\s*$/.exec(text);
  if (match === null) return undefined;
  return match[1] === undefined ? 0 : Number(match[1]) * (UNITS[match[2] as string] as number);
}

function parseInteger(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

/** A comma list of `5xx`, `gateway-error`, a code, `a-b`; entries that are none of these are skipped. */
function parseStatuses(text: string | undefined): RetryPolicy["statusRanges"] | undefined {
  if (text === undefined) return undefined;
  const ranges: { start: number; end: number }[] = [];
  for (const entry of text.split(",")) {
    const match = /^(\d{3})(?:-(\d{3}))?$/.exec(entry);
    if (entry === "5xx") ranges.push({ start: 500, end: 599 });
    else if (entry === "gateway-error") ranges.push({ start: 502, end: 504 });
    else if (match !== null) {
      const start = Number(match[1]);
      const end = match[2] === undefined ? start : Number(match[2]);
      if (start >= 100 && start <= end && end <= 599) ranges.push({ start, end });
    }
  }
  return ranges.length === 0 ? undefined : ranges;
}

const GRPC_CODES: Readonly<Record<string, number>> = {
  cancelled: 1,
  "deadline-exceeded": 4,
  "resource-exhausted": 8,
  internal: 13,
  unavailable: 14,
};

function parseGrpcCodes(text: string | undefined): readonly number[] | undefined {
  if (text === undefined) return undefined;
  const codes = text
    .split(",")
    .flatMap((name) => (Object.hasOwn(GRPC_CODES, name) ? [GRPC_CODES[name] as number] : []));
  return codes.length === 0 ? undefined : codes;
}
