import type { Millis } from "../../proxy/core/clock.ts";
import { sourceKey } from "../control/index.ts";

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

// What a host asks of the API server, by certificate. Renewals and attachments are rare, even while it looks for a replica.
export const HOST_LIMIT: RateLimitOptions = { burst: 30, refillMs: 2000, maxSources: 20_000 };
// Signatures for one workload: answers get lost, keys do not wear out.
export const SIGNATURE_LIMIT: RateLimitOptions = { burst: 6, refillMs: 60_000, maxSources: 20_000 };
// The host remembers names; search lists make several questions of one.
export const RESOLVE_LIMIT: RateLimitOptions = { burst: 500, refillMs: 20, maxSources: 20_000 };
// A heartbeat every 3 s, and one more whenever a probe changes its mind.
export const MESSAGE_LIMIT: RateLimitOptions = { burst: 600, refillMs: 50, maxSources: 1 };

/** A token bucket per source, in bounded memory. A source is an address (see {@link sourceKey}), or any other text. */
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
