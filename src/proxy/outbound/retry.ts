import type { Millis } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import {
  backoffMs,
  isFailure,
  type OutboundChoice,
  type OutboundHttp,
  RetryBudget,
  type RetryPolicy,
  retriesGrpc,
  retriesStatus,
} from "../policy/index.ts";
import {
  type ClientSide,
  type Exchange,
  isGrpc,
  type Layer,
  REFUSED_STREAM,
  type RetryMeter,
  type Service,
} from "../stack/index.ts";
import { Attempt, type AttemptOwner } from "./attempt.ts";
import type { OutboundDeps } from "./deps.ts";

// Linkerd: what a ServiceProfile's route may hold back of a request.
const PROFILE_REQUEST_BYTES = 64 * 1024;

/**
 * Sends requests again where their route says so: by number and condition (policy), or by share of all requests
 * (ServiceProfile). Other requests pass untouched, and so do those whose body would not fit the replay.
 *
 * @param isReady - Whether some backend of the exchange's route could take an attempt now.
 * @see outbound.md §3.8, §9.3
 */
export function retry(deps: OutboundDeps, isReady: (x: Exchange) => boolean): Layer {
  return { named: "retry", wrap: (inner) => new Retry(inner, deps, isReady) };
}

class Retry implements Service {
  readonly inner: Service;
  readonly deps: OutboundDeps;
  readonly isReady: (x: Exchange) => boolean;
  /** One per profile message: all routes of a profile draw on the same. */
  readonly #budgets = new WeakMap<OutboundHttp, RetryBudget>();

  constructor(inner: Service, deps: OutboundDeps, isReady: (x: Exchange) => boolean) {
    this.inner = inner;
    this.deps = deps;
    this.isReady = isReady;
  }

  call(x: Exchange): void {
    const { choice } = x;
    if (choice === undefined || (choice.limits.retry === undefined && !choice.rule.budgetedRetry) || x.upgrade)
      return this.inner.call(x);
    const policy = choice.limits.retry;
    const budget = policy === undefined ? this.#budget(choice.http) : undefined;
    const maxBytes = policy?.maxRequestBytes ?? PROFILE_REQUEST_BYTES;
    if ((policy === undefined && budget === undefined) || !(declaredBytes(x) <= maxBytes)) return this.inner.call(x);
    new RetriedCall(this, x, choice, policy, budget, maxBytes).begin();
  }

  #budget(http: OutboundHttp): RetryBudget | undefined {
    if (http.retryBudget === undefined) return undefined;
    let budget = this.#budgets.get(http);
    if (budget === undefined) {
      budget = new RetryBudget(http.retryBudget, this.deps.runtime.clock.now());
      this.#budgets.set(http, budget);
    }
    return budget;
  }
}

/** What the client says that the request's body is long; 0 if it says nothing. */
function declaredBytes(x: Exchange): number {
  return x.requestEnded ? 0 : Number(x.request.headers.get(H.contentLength) ?? 0);
}

/** One request that may be sent more than once, with what is needed to say it again. */
class RetriedCall implements ClientSide, AttemptOwner {
  readonly outer: Exchange;
  readonly #shared: Retry;
  readonly #choice: OutboundChoice;
  readonly #policy: RetryPolicy | undefined;
  readonly #budget: RetryBudget | undefined;
  readonly #maxBytes: number;
  readonly #meter: RetryMeter;
  #attempt: Attempt | undefined;
  /** Attempts beyond the first. */
  #retries = 0;
  #body: Buffer[] = [];
  #bodyBytes = 0;
  #trailers: HeaderList | undefined;
  /** The body so far is in {@link #body}, whole. */
  #replayable = true;
  /** Waiting for the next attempt, or limiting the present one. */
  #timer: NodeJS.Timeout | undefined;
  #waiting = false;

  constructor(
    shared: Retry,
    outer: Exchange,
    choice: OutboundChoice,
    policy: RetryPolicy | undefined,
    budget: RetryBudget | undefined,
    maxBytes: number,
  ) {
    this.#shared = shared;
    this.outer = outer;
    this.#choice = choice;
    this.#policy = policy;
    this.#budget = budget;
    this.#maxBytes = maxBytes;
    this.#meter = shared.deps.recorder.retries(outer);
    outer.attempted = true;
  }

  begin(): void {
    const { outer } = this;
    const headOnly = outer.requestIsHeadOnly;
    const attempt = new Attempt(this, headOnly);
    this.#attempt = attempt;
    outer.attach(this, headOnly);
    if (outer.requestEnded) this.#limitAttempt();
    this.#shared.inner.call(attempt.x);
  }

  now(): Millis {
    return this.#shared.deps.runtime.clock.now();
  }

  // --- the request, on its way to the present attempt ----------------------------------------------------------------

  sendData(_x: Exchange, view: Buffer, endStream: boolean): boolean {
    if (this.#replayable && view.length > 0) {
      this.#body.push(view);
      this.#bodyBytes += view.length;
    }
    const attempt = this.#waiting ? undefined : this.#attempt;
    // What no attempt has seen yet must be kept, however much it is: the next one starts with it.
    if (attempt !== undefined && this.#bodyBytes > this.#maxBytes) this.#forgetBody();
    if (attempt === undefined) return false;
    const writable = attempt.x.requestData(view, endStream);
    if (endStream) this.#limitAttempt();
    return writable;
  }

  sendEnd(_x: Exchange, trailers: HeaderList | undefined): void {
    this.#trailers = trailers;
    if (this.#waiting) return;
    this.#attempt?.x.requestEnd(trailers);
    this.#limitAttempt();
  }

  resumeResponse(): void {
    this.#attempt?.x.responseWritable();
  }

  cancel(): void {
    this.#clearTimer();
    this.#waiting = false;
    this.#attempt?.retire();
    this.#body = [];
  }

  // --- what became of an attempt -------------------------------------------------------------------------------------

  peeks(head: ResponseHead): boolean {
    this.#clearTimer();
    // Only a status that follows the body can change the verdict, and only HTTP/2 tells it in time.
    const cares = this.#budget !== undefined || (this.#policy?.grpcCodes.length ?? 0) > 0;
    return cares && head.version === "2" && !head.headers.has(H.grpcStatus) && this.#mayRetry();
  }

  answered(attempt: Attempt): boolean {
    this.#clearTimer();
    const { head } = attempt;
    // An answer to a request that is still being sent is the answer.
    if (head === undefined || !this.outer.requestEnded || !this.#wants(head.status, attempt.x.grpcStatus)) {
      this.#settled();
      return false;
    }
    return this.#again(attempt);
  }

  failed(attempt: Attempt, error: ProxyError, code: number): void {
    this.#clearTimer();
    const again = this.#wantsError(error) ? this.#again(attempt) : this.#earn();
    // An attempt that failed holds nothing that could still be delivered.
    attempt.retire();
    if (!again) this.outer.fail(error, code);
  }

  ended(attempt: Attempt): void {
    const { x } = attempt;
    // We did not want its answer; nobody went away.
    if (x.outcome === "client-gone" && x.response !== undefined && this.outer.outcome !== "client-gone")
      x.outcome = "complete";
    this.#shared.deps.recorder.attempted(attempt.x);
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** Whether an answer is one that the route does not want to pass on. */
  #wants(status: number, grpcStatus: number | undefined): boolean {
    if (this.#policy === undefined)
      return isFailure(this.#choice.rule.classify, isGrpc(this.outer.request), status, grpcStatus);
    return retriesStatus(this.#policy, status) || (grpcStatus !== undefined && retriesGrpc(this.#policy, grpcStatus));
  }

  #wantsError(error: ProxyError): boolean {
    const grpc = isGrpc(this.outer.request);
    switch (error.reason) {
      case "connect-failed":
      case "connect-timeout":
      case "identity-mismatch":
      case "identity-missing":
      case "endpoint-reset":
        if (error.resetCode !== undefined && this.outer.request.version === "2")
          return this.#policy !== undefined && error.resetCode === REFUSED_STREAM;
        // Linkerd makes answers of these below the retries (outbound.md §8.3, client rescue).
        return grpc ? this.#wants(200, error.grpc) : this.#wants(error.http, undefined);
      case "failfast":
        return this.#policy !== undefined && !this.#isPastDeadline();
      case "response-timeout":
        // The route's limits for all of a response, and for all of a request, are no reason to ask again.
        return this.#policy !== undefined && error.limit === "headers";
      default:
        return false;
    }
  }

  #isPastDeadline(): boolean {
    const { requestMs } = this.#choice.limits.timeouts;
    return requestMs !== undefined && this.now() >= this.outer.startedAt + requestMs;
  }

  #mayRetry(): boolean {
    return this.#replayable && (this.#policy === undefined || this.#retries < this.#policy.maxRetries);
  }

  /** Prepares another attempt. @returns false: this one's result stands. */
  #again(attempt: Attempt): boolean {
    if (!this.#replayable) return this.#earn();
    const paid = this.#budget === undefined ? this.#mayRetry() : this.#budget.withdraw(this.now());
    if (!paid) {
      this.#meter.exhausted();
      return false;
    }
    const { rng } = this.#shared.deps;
    const backoff = this.#policy?.backoff;
    this.#waiting = true;
    const wait = backoff === undefined ? 0 : backoffMs(backoff, this.#retries, rng);
    this.#timer = setTimeout(() => this.#next(attempt), Math.ceil(wait));
    return true;
  }

  #next(previous: Attempt): void {
    this.#timer = undefined;
    this.#waiting = false;
    const { outer } = this;
    if (outer.ended) return;
    if (!this.#shared.isReady(outer)) {
      this.#meter.overflowed();
      return this.#standBy(previous);
    }
    previous.retire();
    this.#retries++;
    this.#meter.sent();
    const headOnly = outer.requestEnded && this.#body.length === 0 && this.#trailers === undefined;
    const attempt = new Attempt(this, headOnly);
    this.#attempt = attempt;
    for (const view of this.#body) attempt.x.requestData(view, false);
    if (this.#bodyBytes > this.#maxBytes) this.#forgetBody();
    if (outer.requestEnded && !headOnly) attempt.x.requestEnd(this.#trailers);
    if (outer.requestEnded) this.#limitAttempt();
    this.#shared.inner.call(attempt.x);
  }

  /** There is nowhere to try again: the last result stands after all. */
  #standBy(previous: Attempt): void {
    if (previous.live && previous.head !== undefined) return previous.deliver();
    this.outer.fail(previous.x.failure ?? new ProxyError("load-shed"));
  }

  /** Not the last one allowed: how long the endpoint may take for the head once it has the request. */
  #limitAttempt(): void {
    const timeoutMs = this.#policy?.timeoutMs;
    const attempt = this.#attempt;
    if (timeoutMs === undefined || attempt === undefined || attempt.head !== undefined || !this.#mayRetry()) return;
    this.#timer = setTimeout(() => {
      const cause = `response header timeout: ${timeoutMs}ms`;
      const message = `timed out waiting for response headers: ${cause}`;
      attempt.x.fail(new ProxyError("response-timeout", message, { limit: "headers" }));
    }, timeoutMs);
  }

  #settled(): void {
    this.#earn();
    if (this.#retries > 0) this.#meter.succeeded();
  }

  /** What is not to be retried pays for what is. @returns false. */
  #earn(): false {
    this.#budget?.deposit(this.now());
    return false;
  }

  #forgetBody(): void {
    this.#replayable = false;
    this.#body = [];
  }

  #clearTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
