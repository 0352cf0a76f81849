import type { Millis, Rng } from "../../proxy/core/clock.ts";

export interface BackoffOptions {
  readonly minMs: Millis;
  readonly maxMs: Millis;
}

/** Linkerd's own range for streams to its control plane is 100 ms to 60 s; we never ask more than once a second. */
export const RECONNECT: BackoffOptions = { minMs: 1000, maxMs: 60_000 };

/**
 * How long to wait before the next attempt: doubling from `minMs` to `maxMs`, the upper half drawn by chance, so that
 * a crowd that lost the same peer does not come back as one.
 *
 * @param failures - Failures in a row so far, at least 1.
 */
export function backoffMs(failures: number, options: BackoffOptions, rng: Rng): Millis {
  const ceiling = Math.min(options.maxMs, options.minMs * 2 ** Math.min(Math.max(failures, 1) - 1, 30));
  // The floor stays at minMs: full jitter down to zero would let an unlucky draw hammer the peer.
  return Math.max(options.minMs, ceiling * (0.5 + 0.5 * rng()));
}
