import type { ProxyError } from "../core/errors.ts";
import type { HeaderList } from "../core/header.ts";
import type { RequestHead, ResponseHead } from "../core/http.ts";
import { CANCEL, Exchange, type ResponseLayer, type ServerSide } from "../stack/index.ts";

/** Who sends a request, again if need be: what an attempt reports to. */
export interface AttemptOwner {
  /** The exchange with the client. */
  readonly outer: Exchange;
  /** The endpoint has said this much; is the rest of its answer needed to judge it? */
  peeks(head: ResponseHead): boolean;
  /** All is known that will be looked at. @returns true: this answer is held back, another attempt follows. */
  answered(attempt: Attempt): boolean;
  failed(attempt: Attempt, error: ProxyError, code: number): void;
  ended(attempt: Attempt): void;
  now(): number;
}

/**
 * One attempt at answering a request: an exchange of its own whose client is the exchange with the real one.
 *
 * ```text
 *             head ─ needs trailers ─▶ peeking ─ first frame ─▶ judged ─ to be retried ─▶ held ─ given up ─┐
 *   waiting ─┤                                                    │                         │ retried      │
 *             └─ head ─ is enough ───────────────────────────────▶└─▶ passing ◀─────────────┼──────────────┘
 *                                                                        └─▶ over ◀─────────┘
 * ```
 */
export class Attempt implements ServerSide, ResponseLayer {
  readonly x: Exchange;
  readonly #owner: AttemptOwner;
  #state: "waiting" | "peeking" | "held" | "passing" | "over" = "waiting";
  #head: ResponseHead | undefined;
  #data: Buffer[] = [];
  #trailers: HeaderList | undefined;
  #complete = false;
  #judging = false;

  constructor(owner: AttemptOwner, headOnly: boolean) {
    const { outer } = owner;
    this.#owner = owner;
    // Deadlines count from the beginning of the request, whichever attempt it is.
    const x = new Exchange(this, outer.peer, copyHead(outer.request), headOnly, outer.startedAt);
    x.judge = outer.judge;
    x.choice = outer.choice;
    x.route = outer.route;
    x.observe(this);
    this.x = x;
  }

  /** The response's head as it would go out; undefined: there was none yet. */
  get head(): ResponseHead | undefined {
    return this.#head;
  }

  /** Whether the client may still hear of it. */
  get live(): boolean {
    return this.#state !== "over";
  }

  /** Lets the client have what was held back, and the rest as it comes. */
  deliver(): void {
    const head = this.#head;
    if (head === undefined || this.#state === "over") return;
    this.#state = "passing";
    const { outer } = this.#owner;
    const data = this.#data;
    const trailers = this.#trailers;
    this.#data = [];
    this.#copyDecisions();
    outer.respond(head, this.#complete && data.length === 0 && trailers === undefined, this.#owner.now());
    let writable = true;
    for (const view of data) writable = outer.responseData(view, false);
    if (this.#complete) {
      if (data.length > 0 || trailers !== undefined) outer.responseEnd(trailers);
    } else if (writable && data.length > 0) this.x.responseWritable();
  }

  /** Gives it up: whatever it still says is not heard. */
  retire(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    const { x } = this;
    this.#copyDecisions();
    this.#data = [];
    if (x.ended || x.responseEnded) return;
    // What is known decides whether the endpoint did well: the head where there is one, else the error.
    if (x.responseStarted || x.failure === undefined) x.clientGone(CANCEL);
    else x.reset(CANCEL);
  }

  // --- what the endpoint says ----------------------------------------------------------------------------------------

  sendInterim(_x: Exchange, head: ResponseHead): void {
    if (this.#state === "waiting") this.#owner.outer.interim(head);
  }

  sendResponse(_x: Exchange, head: ResponseHead, endStream: boolean): void {
    if (this.#state !== "waiting") return;
    this.#head = head;
    this.#complete = endStream;
    if (!endStream && this.#owner.peeks(head)) this.#state = "peeking";
    else this.#judge();
  }

  sendData(_x: Exchange, view: Buffer, endStream: boolean): boolean {
    switch (this.#state) {
      case "passing":
        return this.#owner.outer.responseData(view, endStream);
      case "over":
        return true;
      default:
        if (view.length > 0) this.#data.push(view);
        this.#complete = endStream;
        this.#judgeSoon();
        return false;
    }
  }

  sendEnd(_x: Exchange, trailers: HeaderList | undefined): void {
    switch (this.#state) {
      case "passing":
        this.#owner.outer.grpcStatus = this.x.grpcStatus;
        return this.#owner.outer.responseEnd(trailers);
      case "over":
        return;
      default:
        this.#trailers = trailers;
        this.#complete = true;
        if (this.#state === "peeking") this.#judge();
    }
  }

  resumeRequest(_x: Exchange): void {
    if (this.#state !== "over") this.#owner.outer.requestWritable();
  }

  abort(x: Exchange, code: number): void {
    if (this.#state === "over") return;
    this.#copyDecisions();
    const held = this.#state === "held";
    this.#state = "over";
    // While another attempt is due the loss of this answer is no loss.
    if (held) return;
    const { outer } = this.#owner;
    if (x.failure === undefined) outer.reset(code);
    else outer.fail(x.failure, code);
  }

  closeAfter(_x: Exchange): void {
    if (this.#state !== "over") this.#owner.outer.server.closeAfter(this.#owner.outer);
  }

  /** Upgrades are not sent twice, and so never go through here. */
  tunnel(): boolean {
    return false;
  }

  onError(_x: Exchange, error: ProxyError): boolean {
    if (this.#state !== "over") this.#owner.failed(this, error, error.resetCode ?? CANCEL);
    return true;
  }

  onEnd(): void {
    this.#owner.ended(this);
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** A second frame counts only if it came with the first: what was read in one turn is looked at together. */
  #judgeSoon(): void {
    if (this.#judging || this.#state !== "peeking") return;
    this.#judging = true;
    queueMicrotask(() => {
      if (this.#state === "peeking") this.#judge();
    });
  }

  #judge(): void {
    this.#state = "held";
    if (!this.#owner.answered(this)) this.deliver();
  }

  #copyDecisions(): void {
    const { outer } = this.#owner;
    const { x } = this;
    outer.backend = x.backend;
    outer.endpoint = x.endpoint;
    outer.dispatchedAt = x.dispatchedAt;
    outer.grpcStatus = x.grpcStatus;
  }
}

function copyHead(head: RequestHead): RequestHead {
  return {
    method: head.method,
    scheme: head.scheme,
    authority: head.authority,
    path: head.path,
    form: head.form,
    version: head.version,
    headers: head.headers.clone(),
    protocol: head.protocol,
  };
}
