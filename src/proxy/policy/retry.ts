import type { Millis, Rng } from "../core/clock.ts";
import type { Backoff, RetryBudgetConfig, RetryPolicy } from "./model.ts";

/** Whether a response status is one of those that the policy retries. */
export function retriesStatus(retry: RetryPolicy, status: number): boolean {
  for (const { start, end } of retry.statusRanges) if (status >= start && status <= end) return true;
  return false;
}

/** Whether a `grpc-status`, from headers or trailers, is one of those that the policy retries. */
export function retriesGrpc(retry: RetryPolicy, code: number): boolean {
  return retry.grpcCodes.includes(code);
}

/**
 * The wait before the next attempt: `min · 2^n` up to `max`, plus a random part of it, never above `max` in total.
 * @param failures - Attempts that have failed since the sequence began, from 0.
 */
export function backoffMs(backoff: Backoff, failures: number, rng: Rng): Millis {
  const base = Math.min(backoff.maxMs, backoff.minMs * 2 ** failures);
  return Math.min(backoff.maxMs, base + base * backoff.jitter * rng());
}

const SLOTS = 10;

/**
 * A ServiceProfile's retry budget: requests deposit, retries withdraw, over a sliding window of ten slots, with a
 * reserve that allows some retries per second at any load.
 * @see outbound.md §9.3 (tower's TPS budget)
 */
export class RetryBudget {
  readonly #slotMs: number;
  readonly #deposit: number;
  readonly #withdraw: number;
  readonly #reserve: number;
  readonly #slots = new Float64Array(SLOTS);
  #sum = 0;
  /** Number of the present slot since time began. */
  #slot: number;

  constructor(config: RetryBudgetConfig, now: Millis) {
    this.#slotMs = config.ttlMs / SLOTS;
    if (config.ratio === 0) {
      this.#deposit = 0;
      this.#withdraw = 1;
    } else if (config.ratio <= 1) {
      this.#deposit = 1;
      this.#withdraw = Math.floor(1 / config.ratio);
    } else {
      this.#deposit = 1000;
      this.#withdraw = Math.floor(1000 / config.ratio);
    }
    this.#reserve = ((config.minRetriesPerSecond * config.ttlMs) / 1000) * this.#withdraw;
    this.#slot = Math.floor(now / this.#slotMs);
  }

  /** A request has finished and will not be retried. */
  deposit(now: Millis): void {
    this.#advance(now);
    this.#put(this.#deposit);
  }

  /** @returns Whether one retry may happen now; if so it is paid for. */
  withdraw(now: Millis): boolean {
    this.#advance(now);
    if (this.#sum + this.#reserve < this.#withdraw) return false;
    this.#put(-this.#withdraw);
    return true;
  }

  #put(amount: number): void {
    const at = this.#slot % SLOTS;
    this.#slots[at] = (this.#slots[at] as number) + amount;
    this.#sum += amount;
  }

  #advance(now: Millis): void {
    const slot = Math.floor(now / this.#slotMs);
    const passed = Math.min(SLOTS, slot - this.#slot);
    for (let i = 1; i <= passed; i++) {
      const at = (this.#slot + i) % SLOTS;
      this.#sum -= this.#slots[at] as number;
      this.#slots[at] = 0;
    }
    if (slot > this.#slot) this.#slot = slot;
  }
}
