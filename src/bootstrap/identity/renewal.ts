import type { Millis, Rng } from "../../proxy/core/clock.ts";
import { type BackoffOptions, backoffMs } from "../control/backoff.ts";

/** After this part of a certificate's life it is renewed (linkerd2-proxy's figure). */
const RENEW_AT = 0.7;
/** After a failed attempt. Not "70 % of what is left", which Linkerd's proxies wait. */
const RETRY: BackoffOptions = { minMs: 1000, maxMs: 60_000 };

export interface RenewalState {
  /** Validity of the present leaf, Unix milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Failures in a row since the last success. */
  readonly failures: number;
}

/**
 * How long to wait before the next attempt to renew: until 70 % of the life has passed, a little earlier by chance so
 * that hosts enrolled together do not renew together; after a failure 1 s doubling to 60 s, with jitter, until it works.
 *
 * @param wallMs - Now, Unix milliseconds.
 * @returns milliseconds, at least 0.
 */
export function renewalDelayMs(state: RenewalState, wallMs: number, rng: Rng): Millis {
  if (state.failures > 0) return backoffMs(state.failures, RETRY, rng);
  const life = state.notAfterMs - state.notBeforeMs;
  // Up to 2 % of the life earlier.
  const due = state.notBeforeMs + life * (RENEW_AT - 0.02 * rng());
  return Math.max(0, due - wallMs);
}
