import type { Socket } from "node:net";
import { type ProtocolError, ProxyError } from "../core/errors.ts";
import type { HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { SocketMeter } from "../core/metrics.ts";
import {
  type ClientSide,
  type Exchange,
  HTTP_1_1_REQUIRED,
  passedOnReason,
  REFUSED_STREAM,
} from "../stack/exchange.ts";
import type { Http2ClientHandler } from "../wire/http2/handler.ts";
import { Http2Client, type Http2Options, type Http2Stream } from "../wire/http2/index.ts";
import { Connection } from "./connection.ts";
import { endpointLost } from "./http1-server.ts";
import type { Runtime } from "./runtime.ts";

const NOTHING = Buffer.alloc(0);
// Linkerd: LINKERD2_PROXY_*_HTTP_QUEUE_CAPACITY.
const MAX_WAITING = 10_000;
const MIN_SWEEP = 64;

/** Who owns the connection to an endpoint. */
export interface Http2Owner {
  /** No new streams: going away or gone. Called once. */
  retired(connection: Http2ClientConnection): void;
  /** The endpoint did not take the exchange up, and surely did nothing for it: it may go out once more. */
  again(x: Exchange): void;
}

/** Runs one HTTP/2 client machine on one socket: many exchanges at a time. */
export class Http2ClientConnection extends Connection implements Http2ClientHandler, ClientSide {
  protected readonly machine: Http2Client;
  readonly #owner: Http2Owner;
  /** Exchanges for which the peer's stream limit leaves no room yet, in order. */
  #waiting: Exchange[] = [];
  #sweepAt = MIN_SWEEP;
  #blocked: Exchange[] = [];
  /** A response came over it. */
  answered = false;
  #retired = false;
  #failed = false;

  constructor(socket: Socket, runtime: Runtime, meter: SocketMeter, options: Partial<Http2Options>, owner: Http2Owner) {
    super(socket, runtime, meter);
    this.#owner = owner;
    this.machine = new Http2Client(this, this.writer, { extendedConnect: true, ...options });
    this.machine.start(runtime.clock.now());
    this.run(undefined, "shared");
  }

  dispatch(x: Exchange): void {
    if (this.#waiting.length > 0 || !this.#open(x)) {
      if (this.#retired) return x.fail(endpointLost());
      if (this.#waiting.length >= this.#sweepAt) this.#sweep();
      if (this.#waiting.length >= MAX_WAITING) return x.fail(new ProxyError("load-shed"));
      this.#waiting.push(x);
    }
    this.runtime.wheel.arm(this);
  }

  /** Lets the streams finish, takes no new ones. */
  drain(): void {
    if (this.closed) return;
    this.#retire();
    this.machine.shutdown();
    this.#closeIfDone();
  }

  get openStreams(): number {
    return this.machine.openStreams;
  }

  // --- what the machine reports ------------------------------------------------------------------------------------

  onInterim(stream: Http2Stream, head: ResponseHead): void {
    (stream.context as Exchange).interim(head);
  }

  onResponse(stream: Http2Stream, head: ResponseHead, endStream: boolean): void {
    const x = stream.context as Exchange;
    this.answered = true;
    x.respond(head, endStream, this.runtime.clock.now());
    if (endStream) this.#streamDone();
  }

  onData(stream: Http2Stream, view: Buffer, endStream: boolean): void {
    const x = stream.context as Exchange;
    if (x.responseData(view, endStream)) this.machine.credit(stream, view.length);
    else {
      x.responseHeldBytes += view.length;
      this.machine.hold(stream, view.length);
    }
    if (endStream) this.#streamDone();
  }

  onTrailers(stream: Http2Stream, trailers: HeaderList): void {
    (stream.context as Exchange).responseEnd(trailers);
    this.#streamDone();
  }

  onReset(stream: Http2Stream, code: number, remote: boolean): void {
    const x = stream.context as Exchange | undefined;
    if (x !== undefined && !x.ended) {
      x.client = undefined;
      // RFC 9113 §8.7: refused, or above the GOAWAY's last stream, means that nothing was done. An endpoint that ages its
      // connections out does so in the middle of traffic.
      if (code === REFUSED_STREAM && x.mayResend()) {
        this.#owner.again(x);
        return this.#streamDone();
      }
      // The connection ended under the stream, or fell silent: that is no word of the endpoint's to pass on.
      const isLost = this.closed || this.socket.readableEnded || (!remote && stream.fault === undefined);
      if (isLost) x.fail(endpointLost(), code);
      // RFC 9113 §8.1: NO_ERROR after a complete response only says that the rest of the request is not wanted.
      else x.fail(resetBy(remote, code), code);
    }
    this.#streamDone();
  }

  onWritable(stream: Http2Stream): void {
    const x = stream.context as Exchange;
    if (this.backedUp) this.#blocked.push(x);
    else x.requestWritable();
  }

  onGoaway(_lastStreamId: number, _code: number): void {
    this.#retire();
    this.#closeIfDone();
  }

  onCapacity(): void {
    this.#fill();
  }

  onConnectionError(error: ProtocolError): void {
    this.#failed = true;
    this.meter.refused(error.section);
    this.runtime.log.debug("closed an HTTP/2 connection", { why: error.message, rule: error.section });
    this.#retire();
    this.finish();
  }

  onEnd(): void {
    this.#retire();
    this.finish();
  }

  protected drained(): void {
    if (this.#blocked.length === 0) return;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const x of blocked) x.requestWritable();
  }

  protected lost(): void {
    this.#retire();
    if (!this.#failed) this.machine.receive(NOTHING, this.runtime.clock.now());
  }

  // --- what the exchange asks for ----------------------------------------------------------------------------------

  sendData(x: Exchange, view: Buffer, endStream: boolean): boolean {
    if (this.closed) return true;
    if (!this.machine.sendData(x.clientStream as Http2Stream, view, endStream)) return false;
    if (endStream || !this.backedUp) return true;
    if (this.#blocked.at(-1) !== x) this.#blocked.push(x);
    return false;
  }

  sendEnd(x: Exchange, trailers: HeaderList | undefined): void {
    if (this.closed) return;
    const stream = x.clientStream as Http2Stream;
    if (trailers === undefined) this.machine.sendData(stream, NOTHING, true);
    else this.machine.sendTrailers(stream, trailers);
  }

  resumeResponse(x: Exchange): void {
    const held = x.responseHeldBytes;
    x.responseHeldBytes = 0;
    if (held > 0 && !this.closed) this.machine.credit(x.clientStream as Http2Stream, held);
  }

  cancel(x: Exchange, code: number): void {
    const stream = x.clientStream as Http2Stream | undefined;
    if (stream === undefined || this.closed) return;
    this.machine.reset(stream, passedOnReason(code));
    this.#streamDone();
  }

  // -----------------------------------------------------------------------------------------------------------------

  #open(x: Exchange): boolean {
    if (this.#retired) return false;
    if (x.request.protocol !== undefined && !this.machine.allowsExtendedConnect) {
      if (!this.machine.isSettled) return false;
      // RFC 8441 §3: not without the endpoint's word. The client may say the same by HTTP/1.1's Upgrade.
      x.fail(
        new ProxyError("endpoint-reset", "endpoint takes no extended CONNECT", { resetCode: HTTP_1_1_REQUIRED }),
        HTTP_1_1_REQUIRED,
      );
      return true;
    }
    const stream = this.machine.openStream(x);
    if (stream === undefined) return false;
    x.clientStream = stream;
    const headOnly = x.requestIsHeadOnly;
    this.machine.sendRequest(stream, x.request, headOnly);
    x.attach(this, headOnly, true);
    return true;
  }

  /** Forgets those that were cancelled meanwhile: a client that asks and cancels must not fill the queue. */
  #sweep(): void {
    this.#waiting = this.#waiting.filter((x) => !x.ended);
    this.#sweepAt = Math.max(MIN_SWEEP, this.#waiting.length * 2);
  }

  #fill(): void {
    while (this.#waiting.length > 0) {
      const x = this.#waiting[0] as Exchange;
      if (!x.ended && !this.#open(x)) return;
      this.#waiting.shift();
    }
  }

  #streamDone(): void {
    if (this.#waiting.length > 0) this.#fill();
    this.#closeIfDone();
  }

  #retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    this.#owner.retired(this);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const x of waiting) if (!x.ended) this.#owner.again(x);
  }

  #closeIfDone(): void {
    if (this.closed || this.finishing) return;
    if (this.#retired && this.machine.openStreams === 0) this.finish();
  }
}

function resetBy(remote: boolean, code: number): ProxyError {
  const message = remote ? `endpoint reset the stream (${code})` : "endpoint broke HTTP/2";
  return new ProxyError("endpoint-reset", message, { resetCode: code });
}
