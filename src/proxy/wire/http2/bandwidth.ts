import type { Millis } from "../../core/clock.ts";

// A round trip shorter than this is the machine's own pace: 64 KiB in 2 ms are 32 MB/s of one stream already.
const MIN_ROUND_TRIP_MS = 2;
// What arrived in a round trip says that the window is the limit once it fills two thirds of it (gRPC, hyper).
const FULL_NUMERATOR = 2;
const FULL_DENOMINATOR = 3;
// Between two samples: at first often, then as seldom as hyper's ten seconds while nothing changes.
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/**
 * Finds out how much content is on its way at once, so that a window may grow to what the path carries: content is counted
 * between a PING and its answer, as gRPC's and hyper's estimators do.
 */
export class BandwidthEstimate {
  readonly #maxWindowBytes: number;
  #sentAt: Millis | undefined;
  #sampleBytes = 0;
  #best = 0;
  #nextAt: Millis = 0;
  #delayMs = FIRST_DELAY_MS;

  constructor(maxWindowBytes: number) {
    this.#maxWindowBytes = maxWindowBytes;
  }

  /** A PING is out, and its answer awaited. */
  get isMeasuring(): boolean {
    return this.#sentAt !== undefined;
  }

  /** @returns whether a PING should be sent now, before anything else of the content is read. */
  received(bytes: number, now: Millis): boolean {
    if (this.#sentAt !== undefined) {
      this.#sampleBytes += bytes;
      return false;
    }
    if (now < this.#nextAt) return false;
    this.#sentAt = now;
    this.#sampleBytes = bytes;
    return true;
  }

  /**
   * The PING was answered.
   *
   * @param windowBytes - Of a stream, at present.
   * @returns the window that streams should have from now on: the same, or a larger one.
   */
  answered(windowBytes: number, now: Millis): number {
    if (this.#sentAt === undefined) return windowBytes;
    const roundTripMs = now - this.#sentAt;
    this.#sentAt = undefined;
    const perMs = this.#sampleBytes / Math.max(roundTripMs, 0.001);
    const isFull = this.#sampleBytes * FULL_DENOMINATOR >= windowBytes * FULL_NUMERATOR;
    if (roundTripMs < MIN_ROUND_TRIP_MS || !isFull || perMs <= this.#best || windowBytes >= this.#maxWindowBytes) {
      this.#nextAt = now + this.#delayMs;
      this.#delayMs = Math.min(MAX_DELAY_MS, this.#delayMs * 4);
      return windowBytes;
    }
    this.#best = perMs;
    this.#delayMs = FIRST_DELAY_MS;
    return Math.min(this.#maxWindowBytes, Math.max(windowBytes, this.#sampleBytes) * 2);
  }
}
