import { parseIp } from "../core/address.ts";

/** How many accepted connections may be open at once, all workers together. */
export interface ConnectionBounds {
  readonly total: number;
  /** Of one client address; of one /64 with IPv6, whose owner has all of it. */
  readonly perClient: number;
}

/** What stands against another connection. */
export type Refusal = "total" | "client";

/** Clients are told apart by a hash: two that share a slot share its bound, which a seed of our own makes bad luck. */
const SLOTS = 4096;
/** A worker's count of all its connections stands before those of its slots. */
const ROW = SLOTS + 1;

/** Memory that all workers of a process count in: one row each. */
export function connectionTable(workers: number): SharedArrayBuffer {
  return new SharedArrayBuffer(workers * ROW * Int32Array.BYTES_PER_ELEMENT);
}

/** What {@link ConnectionLimits.admit} said of one connection: where it was counted, or why it is refused. */
export type Admission = number | Refusal;

/**
 * Counts accepted connections over all workers and refuses those beyond the bounds. Each worker writes its own row and
 * reads all of them, so that a worker that dies takes nothing but its row along: its successor begins with zeros.
 *
 * Two workers that accept at the same moment may both take the last place: bounds are exact to the number of workers.
 */
export class ConnectionLimits {
  readonly #counts: Int32Array;
  readonly #row: number;
  readonly #bounds: ConnectionBounds;
  readonly #seed: number;

  /**
   * @param table - From {@link connectionTable}.
   * @param worker - Whose row this is, from 0.
   * @param seed - The same for all workers, and nobody else's knowledge.
   */
  constructor(table: SharedArrayBuffer, worker: number, bounds: ConnectionBounds, seed: number) {
    this.#counts = new Int32Array(table);
    this.#row = worker * ROW;
    this.#bounds = bounds;
    this.#seed = seed;
    for (let i = 0; i < ROW; i++) Atomics.store(this.#counts, this.#row + i, 0);
  }

  /**
   * Counts a connection, unless that would be one too many. What was admitted is given back by {@link release}.
   * @param client - undefined where only the total counts: the host's own programs share its addresses.
   */
  admit(client: string | undefined): Admission {
    if (this.#sum(0) >= this.#bounds.total) return "total";
    const slot = client === undefined ? 0 : this.#slotOf(client);
    if (slot > 0 && this.#sum(slot) >= this.#bounds.perClient) return "client";
    Atomics.add(this.#counts, this.#row, 1);
    if (slot > 0) Atomics.add(this.#counts, this.#row + slot, 1);
    return slot;
  }

  /** @param slot - What {@link admit} returned. */
  release(slot: number): void {
    Atomics.sub(this.#counts, this.#row, 1);
    if (slot > 0) Atomics.sub(this.#counts, this.#row + slot, 1);
  }

  /** Connections open in all workers. */
  get open(): number {
    return this.#sum(0);
  }

  #sum(slot: number): number {
    let sum = 0;
    for (let at = slot; at < this.#counts.length; at += ROW) sum += Atomics.load(this.#counts, at);
    return sum;
  }

  #slotOf(client: string): number {
    const words = parseIp(client)?.words ?? [];
    let hash = this.#seed;
    // Murmur's mixing: neighbouring addresses land far apart.
    for (let i = 0; i < Math.min(words.length, 2); i++) {
      hash = Math.imul(hash ^ (words[i] as number), 0x85ebca6b);
      hash ^= hash >>> 13;
      hash = Math.imul(hash, 0xc2b2ae35);
      hash ^= hash >>> 16;
    }
    return 1 + ((hash >>> 0) % SLOTS);
  }
}
