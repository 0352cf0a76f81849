// What is forgotten is treated leniently, so this is only how strict we are; Rust's h2 remembers 50 for a second.
const MAX_REMEMBERED = 128;

/**
 * Remembers which streams ended by RST_STREAM, since frames that were on their way then are no error (RFC 9113 §5.1).
 * Streams that both sides ended are not remembered: they are all the others.
 */
export class ClosedStreams {
  /** Whether the reset was ours, in order of time; made on the first reset. */
  #resets: Map<number, boolean> | undefined;
  /** The highest stream forgotten; below it nobody knows how a stream ended. */
  #forgotten = 0;

  add(streamId: number, ours: boolean): void {
    this.#resets ??= new Map();
    this.#resets.set(streamId, ours);
    if (this.#resets.size <= MAX_REMEMBERED) return;
    for (const oldest of this.#resets.keys()) {
      this.#resets.delete(oldest);
      if (oldest > this.#forgotten) this.#forgotten = oldest;
      return;
    }
  }

  /** How a stream that was open once came to its end. In doubt, the answer that costs the peer nothing. */
  howClosed(streamId: number): "ended" | "we-reset" | "peer-reset" {
    const ours = this.#resets?.get(streamId);
    if (ours === undefined) return streamId <= this.#forgotten ? "we-reset" : "ended";
    return ours ? "we-reset" : "peer-reset";
  }
}
