import type { Millis } from "../core/clock.ts";

// An application that is away, or a client that is not let in, fails every time in the same way: its operator needs one
// line, not all of them.
const SAY_AGAIN_MS = 10_000;
// Strangers choose what is said: more different things than this at a time are not told apart.
const MAX_REMEMBERED = 1_024;

/** Lets the same line be logged once in ten seconds. */
export class Seldom {
  readonly #saidAt = new Map<string, Millis>();

  /** @returns Whether it is time to say this (again). */
  due(what: string, now: Millis): boolean {
    const saidAt = this.#saidAt.get(what);
    if (saidAt !== undefined && now - saidAt < SAY_AGAIN_MS) return false;
    if (saidAt === undefined && this.#saidAt.size >= MAX_REMEMBERED && !this.#prune(now)) return false;
    this.#saidAt.set(what, now);
    return true;
  }

  #prune(now: Millis): boolean {
    for (const [what, saidAt] of this.#saidAt) if (now - saidAt >= SAY_AGAIN_MS) this.#saidAt.delete(what);
    return this.#saidAt.size < MAX_REMEMBERED;
  }
}
