import type { Exchange } from "./exchange.ts";
import type { Layer, ResponseLayer, Service } from "./service.ts";

/** Counts, taps and logs exchanges: one call when an exchange ends, nothing allocated before. */
export interface Recorder {
  ended(x: Exchange): void;
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
