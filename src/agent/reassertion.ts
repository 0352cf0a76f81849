import type { Family, ProbeResult } from "./lease-keeper.ts";

// From one round of probes to what a host that cannot be helped by it bears for ever: root starts a program each time.
const FIRST_MS = 2_000;
const MOST_MS = 60_000;

/**
 * When to ask root for the rules again. At once when a family stops working, once for both where they stop together, then less
 * and less often while it does not help. IPv6 counts only after it has worked once: on many hosts it never does.
 */
export class Reassertion {
  readonly #seen = new Set<Family>(["v4"]);
  #everyMs = FIRST_MS;
  #nextAt = 0;
  #askedAt = Number.NEGATIVE_INFINITY;

  /** @param now - Milliseconds that only go up. @returns whether to ask. */
  result(family: Family, result: ProbeResult, now: number): boolean {
    if (result === "works") {
      this.#seen.add(family);
      this.#everyMs = FIRST_MS;
      this.#nextAt = 0;
      return false;
    }
    if (!this.#seen.has(family)) return false;
    // The other family's loss, seen a moment later, has the same cause, and the same answer under way.
    if (result === "lost") this.#nextAt = Math.max(now, Math.min(this.#nextAt, this.#askedAt + FIRST_MS));
    if (now < this.#nextAt) return false;
    this.#askedAt = now;
    this.#nextAt = now + this.#everyMs;
    this.#everyMs = Math.min(MOST_MS, this.#everyMs * 2);
    return true;
  }
}
