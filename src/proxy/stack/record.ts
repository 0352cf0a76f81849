import type { Exchange } from "./exchange.ts";
import type { Layer, ResponseLayer, Service } from "./service.ts";

/**
 * Counts, taps and logs exchanges. What has begun counts at once, an hour before it ends if need be; nothing is allocated
 * for that.
 * @see telemetry.md §1.1, §1.4 – §1.6
 */
export interface Recorder {
  /** The port's policy lets it through. */
  permitted(x: Exchange): void;
  /** It goes to its route's backend, or to the application: once per attempt. */
  sent(x: Exchange): void;
  /** It goes to an endpoint that can be reached or tried. Once per attempt counts, however often this is said. */
  dispatched(x: Exchange): void;
  /** The first frame of the content that answers it, or its end. */
  answering(x: Exchange): void;
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
  /** It has a route. */
  routed(x: Exchange): void;
  /** As {@link Recorder.answering}, of the endpoint of one attempt. */
  began(x: Exchange): void;
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

  onBody(x: Exchange): void {
    this.#recorder.answering(x);
  }

  onEnd(x: Exchange): void {
    this.#recorder.ended(x);
  }
}
