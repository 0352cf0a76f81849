/** Monotonic milliseconds. Only differences mean anything; the driver that owns the socket supplies `now`. */
export type Millis = number & { readonly __unit?: "ms" };

/** Time and chance, handed in by whoever owns them, so that the pure rings can be replayed. */
export interface Clock {
  /** Monotonic milliseconds, with fractions. */
  now(): Millis;
  /**
   * Reads the time and keeps it: {@link now} says the same until {@link release}. What happens in one go, such as all that
   * one read brings, then happens at one moment and reads the time once.
   */
  hold?(): Millis;
  release?(): void;
  /** Wall clock in Unix milliseconds: for certificates and logs, never for intervals. */
  wallMs(): number;
}

/** A uniform draw from [0, 1). */
export type Rng = () => number;
