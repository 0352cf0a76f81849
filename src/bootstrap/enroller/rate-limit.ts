import type { Millis } from "../../proxy/core/clock.ts";

export interface RateLimitOptions {
  /** Attempts that may come at once. */
  readonly burst: number;
  /** One more attempt every so often. */
  readonly refillMs: Millis;
  /** Sources remembered; the one unused for longest is forgotten first. */
  readonly maxSources: number;
}

// A group of hosts behind one NAT enrols in a burst; a guesser of 256-bit secrets gains nothing from 20 a minute.
export const ENROLL_LIMIT: RateLimitOptions = { burst: 60, refillMs: 3000, maxSources: 10_000 };

/** A token bucket per source address, in bounded memory. */
export class RateLimit {
  readonly #options: RateLimitOptions;
  // Insertion order is order of last use.
  readonly #sources = new Map<string, { tokens: number; at: Millis }>();

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** Takes one token. @returns whether there was one. */
  admit(source: string, now: Millis): boolean {
    const { burst, refillMs, maxSources } = this.#options;
    const key = sourceKey(source);
    const known = this.#sources.get(key);
    const tokens = known === undefined ? burst : Math.min(burst, known.tokens + (now - known.at) / refillMs);
    this.#sources.delete(key);
    this.#sources.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    if (this.#sources.size > maxSources) {
      for (const oldest of this.#sources.keys()) {
        this.#sources.delete(oldest);
        break;
      }
    }
    return tokens >= 1;
  }
}

/** One IPv6 host owns a whole /64: it counts as one source. */
function sourceKey(address: string): string {
  return address.includes(":") ? address.split(":").slice(0, 4).join(":") : address;
}
