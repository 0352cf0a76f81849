import type { Millis, Rng } from "../core/clock.ts";
import type { Load } from "./ewma.ts";

/**
 * Power of two choices: of two different candidates drawn at random, the one with less load; of equals the first
 * drawn. Allocates nothing.
 * @returns undefined if there is no candidate.
 * @see outbound.md §5.1
 */
export function pickOfTwo<T extends { readonly load: Load }>(
  candidates: readonly T[],
  rng: Rng,
  now: Millis,
): T | undefined {
  const count = candidates.length;
  if (count < 2) return candidates[0];
  const i = Math.floor(rng() * count);
  let j = Math.floor(rng() * (count - 1));
  if (j >= i) j++;
  const first = candidates[i] as T;
  const second = candidates[j] as T;
  return second.load.load(now) < first.load.load(now) ? second : first;
}

/** How an endpoint's weight counts: how often it is drawn, and how much it can carry. */
export interface Weighted {
  readonly load: Load;
  readonly share: number;
  readonly capacity: number;
}

// Shares far apart would take long to draw from; then the last one drawn has to do.
const MAX_DRAWS = 16;

/**
 * As {@link pickOfTwo}, with each candidate drawn in proportion to its share, and loads compared per capacity. A share
 * alone (a near zone) is a preference that yields to load; with the capacity (a weight) it is a size.
 * @param maxShare - At least the largest share among the candidates.
 */
export function pickOfTwoWeighted<T extends Weighted>(
  candidates: readonly T[],
  maxShare: number,
  rng: Rng,
  now: Millis,
): T | undefined {
  const count = candidates.length;
  if (count < 2) return candidates[0];
  const i = drawIndex(candidates, maxShare, -1, rng);
  const first = candidates[i] as T;
  const second = candidates[drawIndex(candidates, maxShare, i, rng)] as T;
  const a = first.load.load(now) * second.capacity;
  const b = second.load.load(now) * first.capacity;
  return b < a ? second : first;
}

/** Draws and draws again until one is taken, which is likelier the larger its share; never `other`. */
function drawIndex(candidates: readonly Weighted[], maxShare: number, other: number, rng: Rng): number {
  const count = other < 0 ? candidates.length : candidates.length - 1;
  let at = 0;
  for (let draws = 0; draws < MAX_DRAWS; draws++) {
    at = Math.floor(rng() * count);
    if (other >= 0 && at >= other) at++;
    if (rng() * maxShare < (candidates[at] as Weighted).share) break;
  }
  return at;
}
