import type { Rng } from "../core/clock.ts";

/** The first backend that is ready; undefined: none. */
export function firstAvailable<B>(backends: readonly B[], isReady: (backend: B) => boolean): B | undefined {
  for (const backend of backends) if (isReady(backend)) return backend;
  return undefined;
}

/**
 * A weighted random draw among the backends that are ready. That is the same as drawing among all and drawing again
 * among the rest when the one drawn is not ready. A single backend's weight does not count; otherwise weight 0 is
 * never drawn. Allocates nothing.
 *
 * @param isReady - Asked once or twice per backend; must not change its mind in between.
 * @returns undefined: none ready.
 * @see outbound.md §3.6
 */
export function randomAvailable<B extends { readonly weight: number }>(
  backends: readonly B[],
  isReady: (backend: B) => boolean,
  rng: Rng,
): B | undefined {
  if (backends.length <= 1) return firstAvailable(backends, isReady);
  let total = 0;
  for (const backend of backends) if (backend.weight > 0 && isReady(backend)) total += backend.weight;
  if (total === 0) return undefined;
  let point = rng() * total;
  let last: B | undefined;
  for (const backend of backends) {
    if (backend.weight === 0 || !isReady(backend)) continue;
    last = backend;
    point -= backend.weight;
    if (point < 0) return backend;
  }
  // Rounding may leave a crumb past the last one.
  return last;
}
