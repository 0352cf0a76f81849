import type { Millis } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import type { Timeouts } from "../policy/index.ts";
import { CANCEL, type Exchange, type Layer, type ResponseLayer, type Service } from "../stack/index.ts";
import type { Runtime } from "../transport/index.ts";
import type { Timed } from "../transport/timer-wheel.ts";

/**
 * Ends exchanges that take longer than their route allows: `request` from the start to the end of the response,
 * `response` from the end of the request to the end of the response. Routes without timeouts cost nothing.
 * @see outbound.md §3.7
 */
export function deadline(runtime: Runtime): Layer {
  return { named: "deadline", wrap: (inner) => new Deadline(inner, runtime) };
}

class Deadline implements Service {
  readonly #inner: Service;
  readonly #runtime: Runtime;

  constructor(inner: Service, runtime: Runtime) {
    this.#inner = inner;
    this.#runtime = runtime;
  }

  call(x: Exchange): void {
    const timeouts = x.choice?.rule.timeouts;
    if (
      timeouts !== undefined &&
      (timeouts.requestMs !== undefined || timeouts.responseMs !== undefined || timeouts.headersMs !== undefined)
    ) {
      const timer = new DeadlineTimer(x, timeouts, this.#runtime);
      x.observe(timer);
      this.#runtime.wheel.arm(timer);
    }
    this.#inner.call(x);
  }
}

class DeadlineTimer implements Timed, ResponseLayer {
  readonly #x: Exchange;
  readonly #timeouts: Timeouts;
  readonly #runtime: Runtime;
  #requestEndedAt: Millis | undefined;

  constructor(x: Exchange, timeouts: Timeouts, runtime: Runtime) {
    this.#x = x;
    this.#timeouts = timeouts;
    this.#runtime = runtime;
  }

  timeoutAt(): Millis | undefined {
    const x = this.#x;
    if (x.ended) return undefined;
    const { requestMs, responseMs, headersMs } = this.#timeouts;
    let at = requestMs === undefined ? Number.POSITIVE_INFINITY : x.startedAt + requestMs;
    if (headersMs !== undefined && !x.responseStarted) at = Math.min(at, x.startedAt + headersMs);
    if (responseMs !== undefined) {
      const now = this.#runtime.clock.now();
      // The clock of the response starts with the end of the request, or with the response if that is earlier.
      if (this.#requestEndedAt === undefined && (x.requestEnded || x.responseStarted)) this.#requestEndedAt = now;
      at = Math.min(at, (this.#requestEndedAt ?? now) + responseMs);
    }
    return at;
  }

  expire(now: Millis): void {
    const x = this.#x;
    if (x.responseStarted) return x.reset(CANCEL);
    const { requestMs, headersMs, responseMs } = this.#timeouts;
    if (headersMs !== undefined && x.startedAt + headersMs <= now)
      // A ServiceProfile's timeout also closes the connection (outbound.md §8.3 row 4).
      return x.fail(new ProxyError("response-timeout", `HTTP response timeout after ${headersMs}ms`, { closes: true }));
    const cause =
      requestMs !== undefined && x.startedAt + requestMs <= now
        ? `request timeout: ${requestMs}ms`
        : `response stream timeout: ${responseMs}ms`;
    x.fail(new ProxyError("response-timeout", `timed out waiting for response headers: ${cause}`));
  }

  onEnd(): void {
    this.#runtime.wheel.disarm(this);
  }
}
