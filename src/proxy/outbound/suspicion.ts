import type { Millis } from "../core/clock.ts";
import type { ProxyError } from "../core/errors.ts";

// A control plane takes a second or two to notice that a pod is gone. An endpoint that fails for longer and is still
// named is news that did not arrive.
const SUSPECT_AFTER_MS = 3_000;

/** Whether a failure says that nobody answers where discovery has an endpoint, or somebody else. */
export function isUnreached({ reason }: ProxyError): boolean {
  switch (reason) {
    case "connect-failed":
    case "connect-timeout":
    case "identity-mismatch":
    case "identity-missing":
    case "failfast":
    case "load-shed":
      return true;
    default:
      return false;
  }
}

/** An answer of discovery that may be doubted. */
export interface Suspect {
  suspect(): void;
}

/**
 * Tells discovery when the endpoints that it names do not work: a stream that stays open and delivers nothing more is
 * noticed by its effects alone.
 */
export class Suspicion {
  readonly #answers: readonly Suspect[];
  /** Since when an endpoint has failed without a success in between. */
  readonly #failing = new Map<string, Millis>();

  /** @param answers - All that led to these endpoints: any of them may be out of date. */
  constructor(...answers: readonly Suspect[]) {
    this.#answers = answers;
  }

  /** An endpoint could not be reached, or was somebody else. */
  failed(key: string, now: Millis): void {
    const since = this.#failing.get(key);
    if (since === undefined) {
      this.#failing.set(key, now);
    } else if (now - since >= SUSPECT_AFTER_MS) {
      this.#failing.set(key, now);
      this.starved();
    }
  }

  worked(key: string): void {
    if (this.#failing.size > 0) this.#failing.delete(key);
  }

  /** Somebody waited for an endpoint, and there was none. */
  starved(): void {
    for (const answer of this.#answers) answer.suspect();
  }
}
