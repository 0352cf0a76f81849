import type { Millis } from "../core/clock.ts";
import { H, HeaderList } from "../core/header.ts";
import type { Exchange } from "../stack/index.ts";
import type { Runtime } from "../transport/runtime.ts";
import type { Timed } from "../transport/timer-wheel.ts";

// .NET waits 350 ms for it, curl a second, Java's client for ever.
const PATIENCE_MS = 200;

/**
 * Tells a program that waits for a 100 to send its content, if nobody else has told it: Linkerd's proxies keep interim
 * answers of their applications to themselves, and answer such programs in their own name. What the peer does say goes
 * first, and a 100 goes out once.
 * @see RFC 9110 §10.1.1
 */
class Continuation implements Timed {
  wheelTick: number | undefined;
  readonly #x: Exchange;
  #until: Millis | undefined;

  constructor(runtime: Runtime, x: Exchange) {
    this.#x = x;
    this.#until = runtime.clock.now() + PATIENCE_MS;
    runtime.wheel.arm(this);
  }

  timeoutAt(): Millis | undefined {
    return this.#until;
  }

  expire(_now: Millis): void {
    this.#until = undefined;
    // Whoever has begun to send does not wait.
    if (this.#x.requestBytes === 0 && !this.#x.requestEnded)
      this.#x.interim({ status: 100, version: "1.1", headers: new HeaderList(), reason: undefined });
  }
}

/** Looks after an HTTP/1 request that goes to a meshed peer. */
export function continueInTime(runtime: Runtime, x: Exchange): void {
  const { headers, version } = x.request;
  if (!x.requestEnded && version === "1.1" && headers.get(H.expect)?.toLowerCase() === "100-continue")
    new Continuation(runtime, x);
}
