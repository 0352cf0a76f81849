import type { SocketAddress } from "../core/address.ts";
import { ByteQueue } from "../core/byte-queue.ts";
import type { Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { ProxyError } from "../core/errors.ts";
import type { HeaderList } from "../core/header.ts";
import type { RequestHead, ResponseHead } from "../core/http.ts";
import type { SocketMeter } from "../core/metrics.ts";
import type { Backend, Client, OutboundChoice, Permit, ResourceRef } from "../policy/index.ts";
import type { ResponseLayer } from "./service.ts";

/** Who speaks on a connection, settled once when the connection was accepted. */
export interface Peer {
  readonly address: SocketAddress;
  readonly originalDst: SocketAddress;
  /** What policies judge: address, TLS state, identity. */
  readonly client: Client;
  /** Why there is no mesh TLS, where there is more to say than that the client sent none. */
  readonly noTls?: NoTls | undefined;
  /** The recorder's: series that were resolved for this connection. */
  series?: unknown;
}

/** TLS was not looked for, because the port is opaque; or it was somebody else's and is passed through. */
export type NoTls = { readonly kind: "skipped" } | { readonly kind: "foreign"; readonly sni: string };

/** The side that a request came from: what a server driver does for one exchange. */
export interface ServerSide {
  sendInterim(x: Exchange, head: ResponseHead): void;
  sendResponse(x: Exchange, head: ResponseHead, endStream: boolean): void;
  /** @returns false if the client takes no more for now: stop until the exchange's `responseWritable`. */
  sendData(x: Exchange, view: Buffer, endStream: boolean): boolean;
  /** Ends the response; undefined = no trailers. */
  sendEnd(x: Exchange, trailers: HeaderList | undefined): void;
  /** Request body may flow again. */
  resumeRequest(x: Exchange): void;
  /** Ends the response without a proper end: a reset stream or a cut connection. `code` is an HTTP/2 error code. */
  abort(x: Exchange, code: number): void;
  /** Ends the connection once this response is complete. */
  closeAfter(x: Exchange): void;
  /** After a 101 or a 2xx to CONNECT: hands the raw connection over. False if this protocol cannot. */
  tunnel(x: Exchange, other: Tunnel): boolean;
}

/** The side that answers: what a client driver does for one exchange. */
export interface ClientSide {
  /** @returns false if the endpoint takes no more for now: stop until the exchange's `requestWritable`. */
  sendData(x: Exchange, view: Buffer, endStream: boolean): boolean;
  sendEnd(x: Exchange, trailers: HeaderList | undefined): void;
  /** Response body may flow again. */
  resumeResponse(x: Exchange): void;
  /** The client went away: stop the work. `code` is an HTTP/2 error code. */
  cancel(x: Exchange, code: number): void;
}

/** One end of a connection that is copied, not parsed: the socket, what was already read from it, and who counts. */
export interface Tunnel {
  readonly socket: import("node:net").Socket;
  readonly unread: Buffer | undefined;
  readonly meter: SocketMeter;
}

/** How an exchange ended. */
export type Outcome = "complete" | "client-gone" | "endpoint-failed" | "refused";

// RFC 9113 §7
export const NO_ERROR = 0;
export const INTERNAL_ERROR = 2;
export const REFUSED_STREAM = 7;
export const CANCEL = 8;
export const HTTP_1_1_REQUIRED = 13;

// CONNECT_ERROR, ENHANCE_YOUR_CALM, and codes that are nobody's yet.
const PASSED_ON = (code: number): boolean =>
  code === NO_ERROR || code === INTERNAL_ERROR || code === 10 || code === 11 || code > 13;

/**
 * A client's reason to reset, as the endpoint may hear it: one that speaks of the client's own connection, such as
 * FLOW_CONTROL_ERROR, would accuse the wrong one and becomes CANCEL.
 */
export function passedOnReason(code: number): number {
  return PASSED_ON(code) ? code : CANCEL;
}

// An endpoint that refuses every time is not asked for ever.
const MAX_RESENDS = 3;
// So much of a request's content is kept until its answer begins: what an endpoint refuses to begin with (RFC 9113 §8.7)
// can then go elsewhere. A call of gRPC has content, always.
const RESEND_BYTES = 16 * 1024;

/**
 * One request with its response. Everything that layers decide about it is written here, once; nothing else is
 * allocated per request.
 *
 * Request bytes come in from the {@link ServerSide} and go to the {@link ClientSide}, response bytes the other way.
 * Until an endpoint is attached, request bytes are kept and the client's window stays closed.
 */
export class Exchange {
  readonly peer: Peer;
  readonly server: ServerSide;
  readonly request: RequestHead;
  readonly startedAt: Millis;
  /** The response as it goes out; set when the final head arrives. */
  response: ResponseHead | undefined;
  client: ClientSide | undefined;

  /** Driver state: the wire stream on either side, where the protocol has streams. */
  serverStream: unknown;
  clientStream: unknown;

  requestEnded: boolean;
  responseStarted = false;
  #continued = false;
  /** The first frame of the response body went by, or there is none. */
  #bodyBegun = false;
  responseEnded = false;
  ended = false;
  outcome: Outcome = "complete";
  failure: ProxyError | undefined;

  /** Decisions, each written by the layer of that name. */
  permit: Permit | undefined;
  /** Whose policy was asked, also where it refused. */
  judge: ResourceRef | undefined;
  /** Which route matched, for labels: of the workload's policy or of the destination's. */
  route: ResourceRef | undefined;
  choice: OutboundChoice | undefined;
  backend: Backend | undefined;
  endpoint: Endpoint | undefined;
  /** Each attempt at answering it was an exchange of its own, and was recorded as such. */
  attempted = false;
  /** The recorder's own: the series that count it, once it has been dispatched. */
  series: unknown;
  /** The balancer's own: which of its endpoints was taken, and whether the answer was timed. */
  slot: unknown;
  measured = false;
  dispatchedAt: Millis = 0;
  firstByteAt: Millis = 0;
  /** From the response's head or trailers; undefined if there was none. */
  grpcStatus: number | undefined;
  /** `l5d-orig-proto` carried this request: the response returns in HTTP/1's name. */
  origProto = false;
  /** An HTTP/1 upgrade or CONNECT: needs an HTTP/1 connection and may become a tunnel. */
  upgrade = false;
  requestBytes = 0;
  /** Received and not yet credited to the peer's window, by the driver of either side. */
  requestHeldBytes = 0;
  responseHeldBytes = 0;
  responseBytes = 0;

  #layers: ResponseLayer[] = [];
  #keptBody: ByteQueue | undefined;
  #keptTrailers: HeaderList | undefined;
  /** The head was all that an endpoint was sent. */
  #headOnly = false;
  /** What it was sent after the head, copied; undefined: nothing, too much, or it cannot refuse. */
  #sent: Buffer[] | undefined;
  #sentBytes = 0;
  #resends = 0;

  constructor(server: ServerSide, peer: Peer, request: RequestHead, endStream: boolean, now: Millis) {
    this.server = server;
    this.peer = peer;
    this.request = request;
    this.requestEnded = endStream;
    this.startedAt = now;
  }

  /** A layer that wants to see the response says so while the request passes it. Innermost layers see it first. */
  observe(layer: ResponseLayer): void {
    this.#layers.push(layer);
  }

  // --- request direction -------------------------------------------------------------------------------------------

  /** Called by the server driver. @returns false: stop reading until {@link ServerSide.resumeRequest}. */
  requestData(view: Buffer, endStream: boolean): boolean {
    this.requestBytes += view.length;
    if (endStream) this.requestEnded = true;
    if (this.ended) return true;
    if (this.client !== undefined) {
      if (this.#sent !== undefined) this.#remember(view);
      return this.client.sendData(this, view, endStream);
    }
    if (view.length > 0) (this.#keptBody ??= new ByteQueue()).push(view);
    return false;
  }

  requestEnd(trailers: HeaderList | undefined): void {
    this.requestEnded = true;
    if (this.ended) return;
    this.#keptTrailers = trailers;
    this.client?.sendEnd(this, trailers);
    this.#maybeEnd();
  }

  /** Whether the first frame of the answer's content went by, or it has none. */
  get bodyBegun(): boolean {
    return this.#bodyBegun;
  }

  /** True if the client driver may send the head with END_STREAM: nothing follows. */
  get requestIsHeadOnly(): boolean {
    return this.requestEnded && this.#keptBody === undefined && this.#keptTrailers === undefined;
  }

  /**
   * Called by a client driver when it has sent the head: request bytes kept so far go out, later ones go straight
   * through.
   * @param mayRefuse - The endpoint may refuse to begin, and then surely did nothing: see {@link mayResend}.
   */
  attach(client: ClientSide, headOnly: boolean, mayRefuse = false): void {
    this.client = client;
    this.#headOnly = headOnly;
    if (headOnly) return;
    this.#sent = mayRefuse ? [] : undefined;
    this.#sentBytes = 0;
    const kept = this.#keptBody;
    this.#keptBody = undefined;
    let writable = true;
    if (kept !== undefined)
      for (const view of kept.views) {
        if (this.#sent !== undefined) this.#remember(view);
        writable = client.sendData(this, view, false);
      }
    if (this.requestEnded) client.sendEnd(this, this.#keptTrailers);
    else if (writable && kept !== undefined) this.server.resumeRequest(this);
  }

  /** Called by the client driver after its sendData returned false. */
  requestWritable(): void {
    if (!this.requestEnded && !this.ended) this.server.resumeRequest(this);
  }

  /** Called by the server driver: the client reset the stream or closed the connection. */
  clientGone(code: number): void {
    if (this.ended) return;
    this.outcome = "client-gone";
    const client = this.client;
    this.responseEnded = true;
    this.requestEnded = true;
    this.#end();
    client?.cancel(this, code);
  }

  // --- response direction ------------------------------------------------------------------------------------------

  /** A 100 goes out once, whoever says it. */
  interim(head: ResponseHead): void {
    if (this.responseStarted || this.ended || (head.status === 100 && this.#continued)) return;
    if (head.status === 100) this.#continued = true;
    this.server.sendInterim(this, head);
  }

  /** Called by the client driver with the final head. */
  respond(head: ResponseHead, endStream: boolean, now: Millis): void {
    if (this.ended || this.responseStarted) return;
    this.response = head;
    this.#sent = undefined;
    this.firstByteAt = now;
    for (let i = this.#layers.length - 1; i >= 0; i--) this.#layers[i]?.onResponse?.(this, head);
    this.responseStarted = true;
    if (endStream) {
      this.responseEnded = true;
      this.#beginBody();
    }
    this.server.sendResponse(this, head, endStream);
    this.#maybeEnd();
  }

  /** Called by the client driver. @returns false: stop reading until {@link ClientSide.resumeResponse}. */
  responseData(view: Buffer, endStream: boolean): boolean {
    if (this.ended) return true;
    if (!this.#bodyBegun) this.#beginBody();
    this.responseBytes += view.length;
    if (endStream) this.responseEnded = true;
    const writable = this.server.sendData(this, view, endStream);
    this.#maybeEnd();
    return writable;
  }

  responseEnd(trailers: HeaderList | undefined): void {
    if (this.ended || this.responseEnded) return;
    if (!this.#bodyBegun) this.#beginBody();
    if (trailers !== undefined)
      for (let i = this.#layers.length - 1; i >= 0; i--) this.#layers[i]?.onTrailers?.(this, trailers);
    this.responseEnded = true;
    this.server.sendEnd(this, trailers);
    this.#maybeEnd();
  }

  /** Called by the server driver after its sendData returned false. */
  responseWritable(): void {
    if (!this.ended) this.client?.resumeResponse(this);
  }

  /**
   * Something went wrong on the way or at the endpoint. Layers may take it over, innermost first; what none takes ends
   * the exchange.
   * @param code - The HTTP/2 error code to pass on if the response has begun, or if the endpoint reset a native stream.
   */
  fail(error: ProxyError, code: number = INTERNAL_ERROR): void {
    if (this.ended) return;
    this.failure = error;
    if (!this.responseStarted) {
      for (let i = this.#layers.length - 1; i >= 0; i--) if (this.#layers[i]?.onError?.(this, error) === true) return;
    } else if (!this.responseEnded) {
      for (let i = this.#layers.length - 1; i >= 0; i--) {
        const trailers = this.#layers[i]?.onCut?.(this, error);
        if (trailers !== undefined) return this.#cut(trailers);
      }
    }
    this.reset(code);
  }

  /** Ends the exchange without a proper end of the response. */
  reset(code: number): void {
    if (this.ended) return;
    this.outcome = "endpoint-failed";
    const client = this.client;
    this.responseEnded = true;
    this.requestEnded = true;
    this.#end();
    this.server.abort(this, code);
    client?.cancel(this, CANCEL);
  }

  /** Ends a response that will never be whole with trailers that say so. */
  #cut(trailers: HeaderList): void {
    this.outcome = "endpoint-failed";
    const client = this.client;
    this.responseEnded = true;
    this.requestEnded = true;
    this.server.sendEnd(this, trailers);
    this.#end();
    client?.cancel(this, CANCEL);
  }

  /** Answers in the endpoint's place. The request is complete for us; what the client still sends is dropped. */
  answer(head: ResponseHead, closes: boolean): void {
    if (this.ended || this.responseStarted) return;
    this.outcome = "refused";
    const client = this.client;
    this.client = undefined;
    this.#keptBody = undefined;
    if (closes) this.server.closeAfter(this);
    this.response = head;
    for (let i = this.#layers.length - 1; i >= 0; i--) this.#layers[i]?.onResponse?.(this, head);
    this.responseStarted = true;
    this.responseEnded = true;
    this.server.sendResponse(this, head, true);
    this.#end();
    client?.cancel(this, CANCEL);
    if (!this.requestEnded) this.server.resumeRequest(this);
  }

  /** The connection became a tunnel: HTTP is over. */
  tunnelled(): void {
    if (this.ended) return;
    this.responseEnded = true;
    this.requestEnded = true;
    this.#end();
  }

  /**
   * Takes the exchange back from an endpoint that refused to begin with it. True, a few times, if all that it was sent is
   * known: then it can be sent again as it is.
   */
  mayResend(): boolean {
    const sent = this.#sent;
    if (!this.#headOnly && sent === undefined) return false;
    if (this.responseStarted || this.ended || this.#resends >= MAX_RESENDS) return false;
    this.#resends++;
    this.#sent = undefined;
    this.detach();
    if (sent !== undefined && sent.length > 0) {
      const again = new ByteQueue();
      for (const view of sent) again.push(view);
      this.#keptBody = again;
    }
    return true;
  }

  #remember(view: Buffer): void {
    if (view.length === 0) return;
    this.#sentBytes += view.length;
    // The chunk that a view is of may be large, and is not ours to keep.
    if (this.#sentBytes <= RESEND_BYTES) this.#sent?.push(Buffer.from(view));
    else this.#sent = undefined;
  }

  /** Detaches a failed endpoint so that a layer can dispatch the request again. Only before any body was passed on. */
  detach(): void {
    this.client = undefined;
    this.clientStream = undefined;
  }

  #maybeEnd(): void {
    if (!this.responseEnded || this.ended || !this.responseStarted) return;
    this.#end();
    // The answer is complete before the question: the rest of it has no reader.
    if (this.requestEnded) return;
    this.client?.cancel(this, NO_ERROR);
    this.server.resumeRequest(this);
  }

  #beginBody(): void {
    this.#bodyBegun = true;
    for (let i = this.#layers.length - 1; i >= 0; i--) this.#layers[i]?.onBody?.(this);
  }

  #end(): void {
    this.ended = true;
    this.#keptBody = undefined;
    this.#sent = undefined;
    for (let i = this.#layers.length - 1; i >= 0; i--) this.#layers[i]?.onEnd?.(this);
  }
}

/** Turns anything thrown into an error with a reason; a bug stays visible as `unexpected`. */
export function asProxyError(error: unknown): ProxyError {
  return error instanceof ProxyError ? error : new ProxyError("unexpected", undefined, { cause: error });
}
