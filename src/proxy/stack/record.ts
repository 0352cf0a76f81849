import type { Exchange } from "./exchange.ts";
import type { Layer, ResponseLayer, Service } from "./service.ts";

/** Counts, taps and logs exchanges: one call when an exchange ends, nothing allocated before. */
export interface Recorder {
  ended(x: Exchange): void;
}

/** How the retries of one route go. */
export interface RetryMeter {
  /** An attempt beyond the first is sent. */
  sent(): void;
  /** A retry ended with an answer that is not to be retried. */
  succeeded(): void;
  /** Given up: attempts or budget are used up. */
  exhausted(): void;
  /** Given up: no backend is ready. */
  overflowed(): void;
}

/** A recorder for the side that sends requests again. An attempt is an exchange of its own. */
export interface AttemptRecorder extends Recorder {
  /** Once per attempt of an exchange whose {@link Exchange.attempted} is set. */
  attempted(x: Exchange): void;
  retries(x: Exchange): RetryMeter;
}

/** Reports every exchange once, whatever became of it. */
export function record(recorder: Recorder): Layer {
  return { named: "record", wrap: (inner) => new Record(inner, recorder) };
}

class Record implements Service, ResponseLayer {
  readonly #inner: Service;
  readonly #recorder: Recorder;

  constructor(inner: Service, recorder: Recorder) {
    this.#inner = inner;
    this.#recorder = recorder;
  }

  call(x: Exchange): void {
    x.observe(this);
    this.#inner.call(x);
  }

  onEnd(x: Exchange): void {
    this.#recorder.ended(x);
  }
}
