import type { Millis } from "../core/clock.ts";
import type { EndpointsHandle } from "../discovery/index.ts";

// A control plane takes a second or two to notice that a pod is gone. An endpoint that fails for longer and is still
// named is news that did not arrive.
const SUSPECT_AFTER_MS = 3_000;

/**
 * Tells discovery when the endpoints that it names do not work: a stream that stays open and delivers nothing more is
 * noticed by its effects alone.
 */
export class Suspicion {
  readonly #handle: EndpointsHandle;
  /** Since when an endpoint has failed without a success in between. */
  readonly #failing = new Map<string, Millis>();

  constructor(handle: EndpointsHandle) {
    this.#handle = handle;
  }

  /** An endpoint could not be reached, or was somebody else. */
  failed(key: string, now: Millis): void {
    const since = this.#failing.get(key);
    if (since === undefined) {
      this.#failing.set(key, now);
    } else if (now - since >= SUSPECT_AFTER_MS) {
      this.#failing.set(key, now);
      this.#handle.suspect();
    }
  }

  worked(key: string): void {
    if (this.#failing.size > 0) this.#failing.delete(key);
  }

  /** Somebody waited for an endpoint, and there was none. */
  starved(): void {
    this.#handle.suspect();
  }
}
