import type { Millis, Rng } from "../core/clock.ts";

/** Waits between probes, in milliseconds; `jitter` is the part of the wait that may be added at random. */
export interface EjectionBackoff {
  readonly minMs: number;
  readonly maxMs: number;
  readonly jitter: number;
}

/** `minReady`: an endpoint is not set aside while no more than this many are ready; none given: 0. */
export type EjectionConfig =
  | {
      readonly kind: "consecutive";
      readonly maxFailures: number;
      readonly backoff: EjectionBackoff;
      readonly minReady?: number | undefined;
    }
  | {
      readonly kind: "unified";
      readonly successRateThreshold: number;
      readonly windowMs: number;
      readonly minRequests: number;
      readonly maxConsecutiveFailures: number;
      readonly backoff: EjectionBackoff;
      readonly minReady?: number | undefined;
    };

/**
 * How one request to an endpoint went. `degraded`: not a failure, but 429 or gRPC RESOURCE_EXHAUSTED. `abandoned`: we
 * cannot tell, for instance because our client went away.
 */
export type EjectionOutcome = "success" | "failure" | "degraded" | "abandoned";

/**
 * Sets an endpoint aside when it fails, and lets one request through now and then to see whether it is well again.
 *
 * ```text
 *            trips              backoff over
 *    open ──────────▶ shut ──────────────────▶ limited ── probe taken ──▶ probing
 *     ▲                ▲                          ▲                          │
 *     │                └────────── failed ────────┼──────────────────────────┤
 *     │                                           └──────── abandoned ───────┤
 *     └──────────────────────────── succeeded ───────────────────────────────┘
 * ```
 *
 * @see outbound.md §6.2
 */
export class Breaker {
  readonly #config: EjectionConfig;
  readonly #window: SuccessWindow | undefined;
  #state: "open" | "shut" | "limited" | "probing" = "open";
  #inRow = 0;
  /** Probes that failed since the trip. */
  #failedProbes = 0;
  #shutUntil: Millis = 0;

  constructor(config: EjectionConfig) {
    this.#config = config;
    this.#window =
      config.kind === "unified" && config.successRateThreshold > 0 ? new SuccessWindow(config.windowMs) : undefined;
  }

  get state(): "open" | "shut" | "limited" | "probing" {
    return this.#state;
  }

  /** Whether a request may be dispatched. */
  get admits(): boolean {
    return this.#state === "open" || this.#state === "limited";
  }

  /** When the next probe is due; undefined while not shut. */
  timeoutAt(): Millis | undefined {
    return this.#state === "shut" ? this.#shutUntil : undefined;
  }

  /** Makes room for a probe if it is time. */
  expire(now: Millis): void {
    if (this.#state === "shut" && now >= this.#shutUntil) this.#state = "limited";
  }

  /** A request is dispatched: in `limited` it is the probe. */
  dispatched(): void {
    if (this.#state === "limited") this.#state = "probing";
  }

  /**
   * A dispatched request has ended. Those that end while shut do not count.
   * @param mayTrip - False: too few others are ready; it stays open, and the next failure asks again.
   */
  record(outcome: EjectionOutcome, now: Millis, rng: Rng, mayTrip = true): void {
    switch (this.#state) {
      case "shut":
        return;
      case "open":
        if (outcome !== "abandoned" && this.#trips(outcome, now)) {
          if (!mayTrip) {
            this.#inRow = Math.max(0, this.#inRow - 1);
            return;
          }
          this.#failedProbes = 0;
          this.#shut(now, rng);
        }
        return;
      case "limited":
      case "probing":
        this.#probed(outcome, now, rng);
        return;
      default:
        this.#state satisfies never;
    }
  }

  #probed(outcome: EjectionOutcome, now: Millis, rng: Rng): void {
    if (outcome === "abandoned") {
      this.#state = "limited";
    } else if (outcome === "failure" || (outcome === "degraded" && this.#config.kind === "unified")) {
      this.#failedProbes++;
      this.#shut(now, rng);
    } else {
      this.#state = "open";
      this.#inRow = 0;
      this.#window?.clear();
    }
  }

  #trips(outcome: EjectionOutcome, now: Millis): boolean {
    const config = this.#config;
    this.#inRow = outcome === "failure" ? this.#inRow + 1 : 0;
    if (config.kind === "consecutive") return this.#inRow === config.maxFailures && this.#inRow > 0;
    // Also when the row decides: the window must not miss a sample.
    this.#window?.add(outcome === "success", now);
    if (config.maxConsecutiveFailures > 0 && this.#inRow >= config.maxConsecutiveFailures) return true;
    return this.#window?.below(config.successRateThreshold, config.minRequests, now) ?? false;
  }

  #shut(now: Millis, rng: Rng): void {
    const { minMs, maxMs, jitter } = this.#config.backoff;
    const base = Math.min(maxMs, minMs * 2 ** this.#failedProbes);
    this.#shutUntil = now + Math.min(maxMs, base + base * jitter * rng());
    this.#state = "shut";
  }
}

const BUCKETS = 10;

/** Successes and requests of the last `windowMs`, in ten equal buckets. */
class SuccessWindow {
  readonly #bucketMs: number;
  readonly #successes = new Float64Array(BUCKETS);
  readonly #totals = new Float64Array(BUCKETS);
  #bucket = 0;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / BUCKETS;
  }

  add(success: boolean, now: Millis): void {
    this.#advance(now);
    const at = this.#bucket % BUCKETS;
    this.#totals[at] = (this.#totals[at] as number) + 1;
    if (success) this.#successes[at] = (this.#successes[at] as number) + 1;
  }

  below(threshold: number, minRequests: number, now: Millis): boolean {
    this.#advance(now);
    let successes = 0;
    let total = 0;
    for (let i = 0; i < BUCKETS; i++) {
      successes += this.#successes[i] as number;
      total += this.#totals[i] as number;
    }
    // Linkerd keeps the threshold in ten-thousandths.
    return total > 0 && total >= minRequests && successes * 10_000 < Math.round(threshold * 10_000) * total;
  }

  clear(): void {
    this.#successes.fill(0);
    this.#totals.fill(0);
  }

  #advance(now: Millis): void {
    const bucket = Math.floor(now / this.#bucketMs);
    const passed = Math.min(BUCKETS, bucket - this.#bucket);
    for (let i = 0; i < passed; i++) {
      const at = (bucket - i) % BUCKETS;
      this.#successes[at] = 0;
      this.#totals[at] = 0;
    }
    if (bucket > this.#bucket) this.#bucket = bucket;
  }
}
