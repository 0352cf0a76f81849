/** Something that is open and can be asked to come to an end. */
export interface Drainable {
  drain(): void;
  destroy(): void;
}

/** Everything a worker serves at the moment, so that it can be drained, and what remains closed at the limit. */
export class Connections {
  readonly #open = new Set<Drainable>();
  #draining = false;
  #onEmpty: (() => void) | undefined;

  add(connection: Drainable): void {
    this.#open.add(connection);
    if (this.#draining) connection.drain();
  }

  delete(connection: Drainable): void {
    this.#open.delete(connection);
    if (this.#draining && this.#open.size === 0) this.#onEmpty?.();
  }

  get size(): number {
    return this.#open.size;
  }

  /** Asks everybody to finish. @param onEmpty - Called once, when the last one has gone; at once if there is none. */
  drain(onEmpty: () => void): void {
    this.#draining = true;
    this.#onEmpty = () => {
      this.#onEmpty = undefined;
      onEmpty();
    };
    for (const connection of [...this.#open]) connection.drain();
    if (this.#open.size === 0) this.#onEmpty?.();
  }

  destroyAll(): void {
    for (const connection of [...this.#open]) connection.destroy();
  }
}
