import type { Send } from "./entry.ts";
import type { DiscoveryMessage } from "./messages.ts";

/** How many endpoints, or keys of endpoints, go into one message: half a millisecond for a worker to receive. */
export const CHUNK = 100;

/** Whether the worker says when it has taken the message in. */
export function isLong(message: DiscoveryMessage): boolean {
  return message.type === "discovery.endpoints" && message.add.length + message.remove.length > CHUNK / 2;
}

/**
 * Sends one worker what it is told, in order, and after each long message nothing until that has been taken in. A port
 * hands over all that has arrived in one turn of the loop: to a busy worker that would be thousands of endpoints at once.
 */
export class Paced {
  readonly #send: Send;
  #waiting: DiscoveryMessage[] = [];
  #busy = false;

  constructor(send: Send) {
    this.#send = send;
  }

  readonly send: Send = (message) => {
    this.#waiting.push(message);
    if (!this.#busy) this.#go();
  };

  /** The worker has taken in a long message. */
  taken(): void {
    this.#busy = false;
    this.#go();
  }

  /** The worker is gone. */
  stop(): void {
    this.#waiting = [];
  }

  #go(): void {
    for (;;) {
      const message = this.#waiting.shift();
      if (message === undefined) return;
      this.#busy = isLong(message);
      this.#send(message);
      // A worker in the same thread may have answered already.
      if (this.#busy) return;
    }
  }
}
