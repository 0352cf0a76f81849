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
