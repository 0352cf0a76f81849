import type { Millis } from "../core/clock.ts";

/** An endpoint's load as the balancer compares it. Requests count from dispatch to the first frame of the response body. */
export interface Load {
  /** Requests that were dispatched and are not yet measured. */
  pending: number;
  /** The estimate times the requests under way, this one included. Reading may age the estimate. */
  load(now: Millis): number;
  /** Records a response time, or for a failure what it is to count as. */
  observe(rttMs: Millis, now: Millis): void;
}

const MIN_RTT_MS = 1;

/**
 * Peak EWMA: jumps up to a worse response time at once and forgets it slowly, so that one slow answer is felt and an
 * idle endpoint is tried again.
 * @see outbound.md §5.2 (tower's `peak_ewma`)
 */
export class PeakEwma implements Load {
  pending = 0;
  readonly #decayMs: number;
  #estimateMs: number;
  #updatedAt: Millis;

  constructor(defaultRttMs: number, decayMs: number, now: Millis) {
    this.#decayMs = decayMs;
    this.#estimateMs = Math.max(defaultRttMs, MIN_RTT_MS);
    this.#updatedAt = now;
  }

  load(now: Millis): number {
    // Reading decays the stored value, as tower does.
    this.observe(0, now);
    return this.#estimateMs * (this.pending + 1);
  }

  observe(rttMs: Millis, now: Millis): void {
    if (rttMs > this.#estimateMs) {
      this.#estimateMs = rttMs;
    } else {
      const weight = decay(now - this.#updatedAt, this.#decayMs);
      this.#estimateMs = this.#estimateMs * weight + rttMs * (1 - weight);
    }
    this.#updatedAt = now;
  }
}

/**
 * Peak EWMA in which a failure counts as a long response time: see {@link penaltyOf}. Reading projects the decay
 * without storing it, and peaks are compared with the decayed estimate.
 * @see outbound.md §5.3
 */
export class PenaltyPeakEwma implements Load {
  pending = 0;
  readonly #decayMs: number;
  #estimateMs: number;
  #updatedAt: Millis;

  constructor(defaultRttMs: number, decayMs: number, now: Millis) {
    this.#decayMs = decayMs;
    this.#estimateMs = Math.max(defaultRttMs, MIN_RTT_MS);
    this.#updatedAt = now;
  }

  load(now: Millis): number {
    return this.#decayed(now) * (this.pending + 1);
  }

  observe(rttMs: Millis, now: Millis): void {
    const decayed = this.#decayed(now);
    if (rttMs > decayed) {
      this.#estimateMs = rttMs;
    } else {
      const weight = decay(now - this.#updatedAt, this.#decayMs);
      this.#estimateMs = this.#estimateMs * weight + rttMs * (1 - weight);
    }
    this.#updatedAt = now;
  }

  /** Records a failure: never below what the endpoint is already thought to take. */
  penalize(penaltyMs: Millis, now: Millis): void {
    this.observe(Math.max(penaltyMs, this.#decayed(now)), now);
  }

  #decayed(now: Millis): number {
    return this.#estimateMs * decay(now - this.#updatedAt, this.#decayMs);
  }
}

function decay(elapsedMs: number, decayMs: number): number {
  // A clock that went nowhere decays nothing; a decay of 0 remembers nothing.
  if (elapsedMs <= 0) return 1;
  return decayMs <= 0 ? 0 : Math.exp(-elapsedMs / decayMs);
}
