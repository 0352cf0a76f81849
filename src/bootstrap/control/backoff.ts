import type { Millis, Rng } from "../../proxy/core/clock.ts";

export interface BackoffOptions {
  readonly minMs: Millis;
  readonly maxMs: Millis;
}

/** Linkerd's own range for streams to its control plane is 100 ms to 60 s; we never ask more than once a second. */
export const RECONNECT: BackoffOptions = { minMs: 1000, maxMs: 60_000 };

/**
 * How long to wait before the next attempt: anything from `minMs` to twice that, four times, … up to `maxMs`, drawn by
 * chance. All of the range, not its upper part, and from the first failure on: a crowd that lost the same peer at the
 * same moment must not come back as one.
 *
 * @param failures - Failures in a row so far, at least 1.
 */
export function backoffMs(failures: number, options: BackoffOptions, rng: Rng): Millis {
  const { minMs, maxMs } = options;
  const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(Math.max(failures, 1), 30));
  // The floor stays at minMs: full jitter down to zero would let an unlucky draw hammer the peer.
  return minMs + (ceiling - minMs) * rng();
}
