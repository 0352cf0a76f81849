/** Monotonic milliseconds. Only differences mean anything; the driver that owns the socket supplies `now`. */
export type Millis = number & { readonly __unit?: "ms" };

/** Time and chance, handed in by whoever owns them, so that the pure rings can be replayed. */
export interface Clock {
  /** Monotonic milliseconds, with fractions. */
  now(): Millis;
  /** Wall clock in Unix milliseconds: for certificates and logs, never for intervals. */
  wallMs(): number;
}

/** A uniform draw from [0, 1). */
export type Rng = () => number;
