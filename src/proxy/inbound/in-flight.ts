import { ProxyError } from "../core/errors.ts";
import type { Exchange, Layer, ResponseLayer, Service } from "../stack/index.ts";

/** Requests of one road that have no response yet. */
export class InFlight {
  readonly limit: number;
  now = 0;

  constructor(limit: number) {
    this.limit = limit;
  }
}

/** Sheds load before any work is done: counted from the request's to the response's head (inbound.md §6.2, step 6). */
export function inFlight(road: InFlight): Layer {
  return { named: "in-flight", wrap: (inner) => new Counted(inner, road) };
}

class Counted implements Service, ResponseLayer {
  readonly #inner: Service;
  readonly #road: InFlight;

  constructor(inner: Service, road: InFlight) {
    this.#inner = inner;
    this.#road = road;
  }

  call(x: Exchange): void {
    if (this.#road.now >= this.#road.limit) return x.fail(new ProxyError("load-shed"));
    this.#road.now++;
    x.observe(this);
    this.#inner.call(x);
  }

  onResponse(): void {
    this.#road.now--;
  }

  onEnd(x: Exchange): void {
    if (!x.responseStarted) this.#road.now--;
  }
}
