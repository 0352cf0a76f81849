import type { Millis } from "../core/clock.ts";

/** Something with a deadline. The wheel asks again when the slot comes round, so moving a deadline later is free. */
export interface Timed {
  /** The wheel's own: the tick of the slot where it waits, undefined while it waits in none. */
  wheelTick: number | undefined;
  /** When to be called; undefined = not any more. */
  timeoutAt(): Millis | undefined;
  expire(now: Millis): void;
}

const SLOT_MS = 100;
const SLOTS = 600;

/**
 * One coarse timer for all connections of a worker: fires up to 100 ms late, never early. An entry costs a set
 * membership, not a timer object, and waits in one wheel only.
 */
export class TimerWheel {
  readonly #slots: Set<Timed>[] = Array.from({ length: SLOTS }, () => new Set<Timed>());
  #size = 0;
  readonly #now: () => Millis;
  #tick: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(now: () => Millis) {
    this.#now = now;
    this.#tick = Math.floor(now() / SLOT_MS);
  }

  start(): void {
    this.#timer ??= setInterval(() => this.advance(), SLOT_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds an entry, or moves it if it is due earlier than where it waits. */
  arm(entry: Timed): void {
    const at = entry.timeoutAt();
    if (at === undefined) return;
    // The slot after the deadline: never early. Far deadlines wait in the last slot and are asked again there.
    const due = Math.min(Math.max(Math.ceil(at / SLOT_MS), this.#tick + 1), this.#tick + SLOTS - 1);
    const present = entry.wheelTick;
    if (present !== undefined) {
      if (present <= due) return;
      this.#slots[present % SLOTS]?.delete(entry);
    } else this.#size++;
    entry.wheelTick = due;
    this.#slots[due % SLOTS]?.add(entry);
  }

  disarm(entry: Timed): void {
    const at = entry.wheelTick;
    if (at === undefined) return;
    entry.wheelTick = undefined;
    this.#size--;
    this.#slots[at % SLOTS]?.delete(entry);
  }

  /** Serves every slot up to now. Called by the timer; tests call it themselves. */
  advance(): void {
    const now = this.#now();
    const target = Math.floor(now / SLOT_MS);
    // After a long pause one turn of the wheel has met everybody.
    if (target - this.#tick > SLOTS) this.#tick = target - SLOTS;
    while (this.#tick < target) {
      this.#tick++;
      const slot = this.#slots[this.#tick % SLOTS];
      if (slot === undefined || slot.size === 0) continue;
      const entries = [...slot];
      slot.clear();
      this.#size -= entries.length;
      for (const entry of entries) entry.wheelTick = undefined;
      for (const entry of entries) {
        const at = entry.timeoutAt();
        if (at === undefined) continue;
        if (at <= now) entry.expire(now);
        this.arm(entry);
      }
    }
  }
}
