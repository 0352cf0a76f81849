/** A connection that serves requests, as the drain and the worker see it. */
export interface ServerConnection {
  /** Begins with what was already read. */
  start(first: Buffer | undefined): void;
  /** Finishes the exchanges in progress, takes no new ones, then closes. */
  drain(): void;
  destroy(): void;
}
