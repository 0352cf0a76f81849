/**
 * What the data plane counts with. A series is resolved once, when a service, a connection or a route is built, and
 * kept by whoever counts; nothing is looked up per request. A series lives while somebody holds its handle, and for
 * the retention time after its last change.
 */

/**
 * The labels of a series in the order in which they are printed (telemetry's order matters only for diffing). A label
 * that does not apply is left out where the family omits it, and empty where the family keeps it.
 */
export type Labels = Readonly<Record<string, string>>;

/** Only rises. */
export interface Counter {
  /** @param amount - Not negative. */
  add(amount: number): void;
}

/** Rises and falls. Each worker has its own; the page shows the sum. */
export interface Gauge {
  set(value: number): void;
  add(amount: number): void;
}

export interface Histogram {
  /** @param value - In the family's unit; whole milliseconds are cut, not rounded, by the families that count so. */
  observe(value: number): void;
}

/**
 * Finds or makes series. The same family and labels give the same handle. `family` is one of the names in
 * agent/metrics/families.ts, else it throws: that is a bug, found by the first test that passes there.
 *
 * Past the bound of label sets per family the handle counts into nothing that is printed, and the family's overflow
 * counter rises.
 */
export interface MetricsRegistry {
  counter(family: string, labels: Labels): Counter;
  gauge(family: string, labels: Labels): Gauge;
  /** @param buckets - Upper bounds, rising, without +Inf: one of the constants below, the same for all of a family. */
  histogram(family: string, labels: Labels, buckets: readonly number[]): Histogram;
}

/** `response_latency_ms` and its kin, milliseconds (linkerd2-proxy: linkerd/metrics/src/latency.rs). */
export const LATENCY_MS_BUCKETS: readonly number[] = [
  1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000, 10_000, 20_000, 30_000,
  40_000, 50_000,
];

/** Inbound request durations and outbound backend response durations, seconds. */
export const FINE_SECONDS_BUCKETS: readonly number[] = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 10];

/** Outbound route request durations, seconds. */
export const COARSE_SECONDS_BUCKETS: readonly number[] = [0.05, 0.5, 1, 10];

/** How long protocol detection took, seconds. */
export const DETECT_SECONDS_BUCKETS: readonly number[] = [0.001, 0.1];

/** How long a request waited for a ready endpoint, seconds. */
export const QUEUE_SECONDS_BUCKETS: readonly number[] = [0.0005, 0.005, 0.05, 0.5, 1, 3];

/** A registry that counts nothing: for tests and for parts that run without a page. */
export const NO_METRICS: MetricsRegistry = {
  counter: () => NOTHING,
  gauge: () => NOTHING,
  histogram: () => NOTHING,
};

const NOTHING: Counter & Gauge & Histogram = { add() {}, set() {}, observe() {} };

/**
 * What is counted of one socket, by whoever reads and writes it; the series are resolved when it is opened, and that
 * counts it as open. Bytes are those inside TLS.
 */
export interface SocketMeter {
  read(bytes: number): void;
  wrote(bytes: number): void;
  /**
   * Something was refused before it was a request.
   * @param rule - What it broke, such as `RFC 9112 §6.3`.
   */
  refused(rule: string): void;
  /**
   * Once, at the end.
   * @param errno - Name of the system's error that ended the connection, such as `ECONNRESET`; empty: a clean end.
   */
  closed(errno: string): void;
}

export const NO_SOCKET_METER: SocketMeter = { read() {}, wrote() {}, refused() {}, closed() {} };
