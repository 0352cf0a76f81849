import type { Clock, Millis } from "../core/clock.ts";
import { ProxyError, type TimeLimit } from "../core/errors.ts";
import type { Timeouts } from "../policy/index.ts";
import { CANCEL, type Exchange, type Layer, type ResponseLayer, type Service } from "../stack/index.ts";

/**
 * Ends exchanges that take longer than their route allows: `request` from the start to the end of the response,
 * `response` from the end of the request to the end of the response, `idle` between frames. Routes without timeouts
 * cost nothing.
 * @see outbound.md §3.7. Unlike Linkerd's, the time in a balancer's queue is cut short, too.
 */
export function deadline(clock: Clock): Layer {
  return { named: "deadline", wrap: (inner) => new Deadline(inner, clock) };
}

class Deadline implements Service {
  readonly #inner: Service;
  readonly #clock: Clock;

  constructor(inner: Service, clock: Clock) {
    this.#inner = inner;
    this.#clock = clock;
  }

  call(x: Exchange): void {
    const timeouts = x.choice?.limits.timeouts;
    if (
      timeouts !== undefined &&
      (timeouts.requestMs !== undefined ||
        timeouts.responseMs !== undefined ||
        timeouts.idleMs !== undefined ||
        timeouts.headersMs !== undefined)
    ) {
      const timer = new DeadlineTimer(x, timeouts, this.#clock);
      x.observe(timer);
      timer.check();
      // A retry may come too late.
      if (x.ended) return;
    }
    this.#inner.call(x);
  }
}

/**
 * One timer of Node's: they are exact to the millisecond, where the wheel is not, and those of one length share a list.
 * It moves when it fires, not with every frame.
 */
class DeadlineTimer implements ResponseLayer {
  readonly #x: Exchange;
  readonly #timeouts: Timeouts;
  readonly #clock: Clock;
  #timer: NodeJS.Timeout | undefined;
  #requestEndedAt: Millis | undefined;
  /** What the exchange had moved when it was last looked at, and when that was new. */
  #progress = -1;
  #progressAt: Millis = 0;
  readonly #fired = () => this.check();

  constructor(x: Exchange, timeouts: Timeouts, clock: Clock) {
    this.#x = x;
    this.#timeouts = timeouts;
    this.#clock = clock;
  }

  /** Fails the exchange if its time is up, else looks again when it may be. */
  check(): void {
    const x = this.#x;
    if (x.ended) return;
    const now = this.#clock.now();
    const { requestMs, responseMs, headersMs, idleMs } = this.#timeouts;
    let wait = Number.POSITIVE_INFINITY;
    if (requestMs !== undefined) {
      wait = x.startedAt + requestMs - now;
      if (wait <= 0) return this.#fail(`request timeout: ${requestMs}ms`, "request");
    }
    if (headersMs !== undefined && !x.responseStarted) {
      wait = Math.min(wait, x.startedAt + headersMs - now);
      // A ServiceProfile's timeout also closes the connection (outbound.md §8.3 row 4).
      if (wait <= 0) {
        const message = `HTTP response timeout after ${headersMs}ms`;
        return x.fail(new ProxyError("response-timeout", message, { closes: true, limit: "headers" }));
      }
    }
    if (responseMs !== undefined) {
      // The clock of the response starts with the end of the request, or with the response if that is earlier.
      if (this.#requestEndedAt === undefined && (x.requestEnded || x.responseStarted)) this.#requestEndedAt = now;
      // An upload is looked at now and then, so that its end is noticed a quarter late at most.
      wait = Math.min(
        wait,
        this.#requestEndedAt === undefined ? responseMs / 4 : this.#requestEndedAt + responseMs - now,
      );
      if (wait <= 0) return this.#fail(`response stream timeout: ${responseMs}ms`, "response");
    }
    if (idleMs !== undefined) {
      const idle = this.#idleFor(now);
      if (idle >= idleMs) return this.#idled(idleMs);
      // Looked at four times per period: a frame costs nothing, and a silence is cut a quarter late at most.
      wait = Math.min(wait, idleMs - idle, idleMs / 4);
    }
    this.#timer = setTimeout(this.#fired, Math.ceil(wait));
  }

  onEnd(): void {
    clearTimeout(this.#timer);
  }

  /** How long neither body has moved; 0 while neither is expected to. */
  #idleFor(now: Millis): Millis {
    const x = this.#x;
    const progress = x.requestBytes + x.responseBytes + (x.requestEnded ? 1 : 0) + (x.responseStarted ? 1 : 0);
    // Between the request's end and the response's head there is no body to wait for.
    if (progress !== this.#progress || (x.requestEnded && !x.responseStarted)) {
      this.#progress = progress;
      this.#progressAt = now;
    }
    return now - this.#progressAt;
  }

  #idled(idleMs: Millis): void {
    const message = `stream idle for ${idleMs}ms`;
    if (this.#x.responseStarted) this.#x.fail(new ProxyError("response-timeout", message, { limit: "idle" }), CANCEL);
    // outbound.md §3.7: nobody asked what became of the request's body.
    else this.#x.fail(new ProxyError("unexpected", undefined, { cause: message }));
  }

  #fail(cause: string, limit: TimeLimit): void {
    const message = `timed out waiting for response headers: ${cause}`;
    this.#x.fail(new ProxyError("response-timeout", message, { limit }), CANCEL);
  }
}
