import type { Send } from "./entry.ts";
import type { DiscoveryMessage } from "./messages.ts";
import type { Timers } from "./watch.ts";

/** A message of so many endpoints takes a worker a millisecond to receive. */
export const LONG = 200;
/** A worker's port hands over all that has arrived in one turn: what should come in several turns must come later. */
const PAUSE_MS = 3;

/** Sends one worker what it is told, in order, with a pause after each long message: requests get their turn. */
export class Paced {
  readonly #send: Send;
  readonly #timers: Timers;
  #waiting: DiscoveryMessage[] = [];
  #callOff: (() => void) | undefined;

  constructor(send: Send, timers: Timers) {
    this.#send = send;
    this.#timers = timers;
  }

  readonly send: Send = (message) => {
    this.#waiting.push(message);
    if (this.#callOff === undefined) this.#go();
  };

  /** The worker is gone. */
  stop(): void {
    this.#callOff?.();
    this.#callOff = undefined;
    this.#waiting = [];
  }

  #go(): void {
    this.#callOff = undefined;
    for (;;) {
      const message = this.#waiting.shift();
      if (message === undefined) return;
      this.#send(message);
      if (message.type !== "discovery.endpoints" || message.add.length < LONG) continue;
      this.#callOff = this.#timers.after(PAUSE_MS, () => this.#go());
      return;
    }
  }
}
