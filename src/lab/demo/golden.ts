import type { Sample } from "./exposition.ts";

/** What an operator looks at first, for one way that traffic takes. */
export interface Golden {
  readonly from: string;
  readonly to: string;
  readonly requests: number;
  readonly perSecond: number;
  /** 0 to 1; undefined without requests. */
  readonly successRate: number | undefined;
  /** Estimated from the histogram, as a dashboard does; undefined without requests. */
  readonly p50Ms: number | undefined;
  readonly p95Ms: number | undefined;
  readonly p99Ms: number | undefined;
  /** Share of the requests that went over mutual TLS. */
  readonly tlsShare: number | undefined;
}

/**
 * Golden metrics of one host's outbound HTTP traffic, by destination Service: the difference of two readings of its
 * metrics page.
 *
 * @param seconds - Between the readings.
 */
export function goldenMetrics(
  from: string,
  before: readonly Sample[],
  after: readonly Sample[],
  seconds: number,
): Golden[] {
  const byService = new Map<string, Way>();
  const earlier = new Map(before.map((sample) => [keyOf(sample), sample.value]));
  for (const sample of after) {
    const { name, labels } = sample;
    const service = labels["dst_service"];
    if (labels["direction"] !== "outbound" || service === undefined) continue;
    const grown = sample.value - (earlier.get(keyOf(sample)) ?? 0);
    let way = byService.get(service);
    if (way === undefined) {
      way = { total: 0, succeeded: 0, tls: 0, buckets: new Map() };
      byService.set(service, way);
    }
    if (name === "response_total") {
      way.total += grown;
      if (labels["classification"] === "success") way.succeeded += grown;
      if (labels["tls"] === "true") way.tls += grown;
    } else if (name === "response_latency_ms_bucket") {
      const bound = labels["le"] === "+Inf" ? Number.POSITIVE_INFINITY : Number(labels["le"]);
      way.buckets.set(bound, (way.buckets.get(bound) ?? 0) + grown);
    }
  }
  return [...byService].map(([to, way]) => ({
    from,
    to,
    requests: way.total,
    perSecond: way.total / seconds,
    successRate: way.total === 0 ? undefined : way.succeeded / way.total,
    p50Ms: quantile(way.buckets, 0.5),
    p95Ms: quantile(way.buckets, 0.95),
    p99Ms: quantile(way.buckets, 0.99),
    tlsShare: way.total === 0 ? undefined : way.tls / way.total,
  }));
}

interface Way {
  total: number;
  succeeded: number;
  tls: number;
  /** Cumulative counts by upper bound. */
  readonly buckets: Map<number, number>;
}

function keyOf({ name, labels }: Sample): string {
  return `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
}

/** A quantile of a cumulative histogram, linear within a bucket as Prometheus' `histogram_quantile`. */
export function quantile(buckets: ReadonlyMap<number, number>, q: number): number | undefined {
  const bounds = [...buckets].sort(([a], [b]) => a - b);
  const total = bounds.at(-1)?.[1] ?? 0;
  if (total <= 0) return undefined;
  const rank = q * total;
  let [low, below] = [0, 0];
  for (const [bound, count] of bounds) {
    if (count >= rank) {
      // Beyond the last finite bound nothing is known but that it is beyond.
      if (bound === Number.POSITIVE_INFINITY) return low;
      return low + ((bound - low) * (rank - below)) / (count - below || 1);
    }
    [low, below] = [bound, count];
  }
  return low;
}
