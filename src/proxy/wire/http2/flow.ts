/** RFC 9113 §6.9.1: no window may exceed 2^31-1. */
export const MAX_WINDOW_BYTES = 0x7fff_ffff;

/** RFC 9113 §6.9.2: what every window is before SETTINGS or WINDOW_UPDATE say otherwise. */
export const INITIAL_WINDOW_BYTES = 65_535;

/**
 * The receiving side's account of one window: what the peer may still send, and what was passed on but not yet
 * announced. One per stream and one per connection.
 */
export class ReceiveWindow {
  /** Bytes the peer may still send; below zero it has broken flow control. */
  available: number;
  /** Bytes passed on and not yet given back to the peer. */
  owed = 0;
  /** Give back once this much is owed: half the window, so that a steady sender never waits and few frames are sent. */
  threshold: number;

  constructor(bytes: number) {
    this.available = bytes;
    this.threshold = Math.max(1, bytes >>> 1);
  }

  /** @returns false if the peer sent more than it may. */
  consume(bytes: number): boolean {
    this.available -= bytes;
    return this.available >= 0;
  }

  /** @returns the increment to announce now, 0 to wait for more. */
  credit(bytes: number): number {
    this.owed += bytes;
    if (this.owed < this.threshold) return 0;
    const increment = this.owed;
    this.owed = 0;
    this.available += increment;
    return increment;
  }

  /** Makes the window larger at once. @returns the increment to announce where no SETTINGS do. */
  grow(bytes: number, by: number): number {
    this.available += by;
    this.threshold = Math.max(1, bytes >>> 1);
    return by;
  }

  /** The window's agreed size changed by `delta` bytes (our SETTINGS were acknowledged). */
  resize(delta: number, bytes: number): void {
    this.available += delta;
    this.threshold = Math.max(1, bytes >>> 1);
  }
}
