import type { Socket } from "node:net";
import { type ProtocolError, ProxyError } from "../core/errors.ts";
import { H, HeaderList } from "../core/header.ts";
import type { RequestHead, ResponseHead } from "../core/http.ts";
import type { SocketMeter } from "../core/metrics.ts";
import { CANCEL, Exchange, type Peer, type ServerSide, type Tunnel } from "../stack/exchange.ts";
import type { Service } from "../stack/service.ts";
import type { Http1ServerHandler } from "../wire/http1/handler.ts";
import { Http1Server, isUpgradeRequest, stripHopByHop } from "../wire/http1/index.ts";
import { abort } from "./abort.ts";
import { Connection } from "./connection.ts";
import { relay } from "./pump.ts";
import type { Runtime } from "./runtime.ts";
import type { ServerConnection } from "./server-connection.ts";

// A request body that nobody wants is read to its end up to here, so that the answer is not reset away (B01).
const MAX_DRAINED_BYTES = 64 * 1024;
// While draining, an idle client may send one more request, whose answer tells it to go elsewhere. nginx and HAProxy close
// idle connections at once, and lose those requests that are on their way.
const DRAIN_PATIENCE_MS = 5_000;

/** Runs one HTTP/1 server machine on one socket: requests come in, one at a time, and go to the service. */
export class Http1ServerConnection extends Connection implements Http1ServerHandler, ServerSide, ServerConnection {
  protected readonly machine: Http1Server;
  readonly #peer: Peer;
  readonly #service: Service;
  readonly #onClosed: (connection: ServerConnection) => void;
  #exchange: Exchange | undefined;
  /** The response is out and the request is in: the next request may begin. */
  #advance = false;
  #advancing = false;
  #drainedBytes = 0;
  #responseBlocked = false;

  constructor(
    socket: Socket,
    runtime: Runtime,
    meter: SocketMeter,
    peer: Peer,
    service: Service,
    onClosed: (connection: ServerConnection) => void,
  ) {
    super(socket, runtime, meter);
    this.#peer = peer;
    this.#service = service;
    this.#onClosed = onClosed;
    this.machine = new Http1Server(this, this.writer);
  }

  start(first: Buffer | undefined): void {
    // Begins the idle time: a client that never says a byte is not kept for ever.
    this.machine.advance(this.runtime.clock.now());
    this.run(first, "line");
  }

  drain(): void {
    this.machine.wrapUp(this.runtime.clock.now(), DRAIN_PATIENCE_MS);
    this.runtime.wheel.arm(this);
  }

  // --- what the machine reports ------------------------------------------------------------------------------------

  onRequest(head: RequestHead, endStream: boolean): void {
    const x = new Exchange(this, this.#peer, head, endStream, this.runtime.clock.now());
    this.#exchange = x;
    this.#drainedBytes = 0;
    x.upgrade = isUpgradeRequest(head);
    const framing = x.upgrade ? undefined : stripHopByHop(head.headers);
    if (framing === undefined) return this.#service.call(x);
    // B16: a client that wants Host or the framing removed on the way wants two readers to disagree.
    this.meter.refused("RFC 9110 §7.6.1");
    this.machine.closeAfterResponse();
    x.answer({ status: 400, version: head.version, headers: new HeaderList(), reason: undefined }, true);
  }

  onData(view: Buffer): void {
    const x = this.#exchange;
    if (x === undefined || x.ended) {
      this.#drainedBytes += view.length;
      if (this.#drainedBytes > MAX_DRAINED_BYTES) this.finish();
      return;
    }
    if (x.requestData(view, false)) return;
    // Reading stops on our account: the client is not too slow.
    this.machine.isHeld = true;
    this.pauseReading();
  }

  onRequestEnd(trailers: HeaderList | undefined): void {
    const x = this.#exchange;
    if (x === undefined) return;
    if (x.ended) this.#complete();
    else x.requestEnd(trailers);
  }

  onError(error: ProtocolError): void {
    const x = this.#exchange;
    this.meter.refused(error.section);
    this.runtime.log.debug("refused a request", {
      client: this.#peer.address.ip,
      why: error.message,
      rule: error.section,
    });
    if (x !== undefined && !x.ended) {
      const started = x.responseStarted;
      x.clientGone(CANCEL);
      if (started) return this.destroy();
    } else if (x !== undefined) {
      return this.finish();
    }
    this.machine.closeAfterResponse();
    const headers = new HeaderList();
    headers.add(H.contentLength, "0");
    this.runtime.date.addTo(headers);
    this.machine.sendHead({ status: error.code, version: "1.1", headers, reason: undefined }, true);
    this.finish();
  }

  onEnd(): void {
    this.finish();
  }

  protected override afterReceive(): void {
    this.#pump();
    if (this.machine.wantsPause) this.pauseReading();
  }

  protected drained(): void {
    if (!this.#responseBlocked) return;
    this.#responseBlocked = false;
    this.#exchange?.responseWritable();
  }

  protected lost(): void {
    const x = this.#exchange;
    this.#exchange = undefined;
    if (x !== undefined) x.clientGone(CANCEL);
    this.#onClosed(this);
  }

  // --- what the exchange asks for ----------------------------------------------------------------------------------

  sendInterim(_x: Exchange, head: ResponseHead): void {
    if (!this.closed) this.machine.sendInterim(head);
  }

  sendResponse(x: Exchange, head: ResponseHead, endStream: boolean): void {
    if (this.closed) return;
    // The rest of the request will not be waited for beyond what is drained.
    if (endStream && !x.requestEnded && x.request.headers.has(H.expect)) this.machine.closeAfterResponse();
    if (head.status >= 200) this.runtime.date.addTo(head.headers);
    this.machine.sendHead(head, endStream);
    if (endStream) this.#responded(x);
  }

  sendData(x: Exchange, view: Buffer, endStream: boolean): boolean {
    if (this.closed) return true;
    if (view.length > 0) this.machine.sendData(view);
    if (endStream) {
      this.machine.sendEnd(undefined);
      this.#responded(x);
      return true;
    }
    if (!this.backedUp) return true;
    this.#responseBlocked = true;
    return false;
  }

  sendEnd(x: Exchange, trailers: HeaderList | undefined): void {
    if (this.closed) return;
    this.machine.sendEnd(trailers);
    this.#responded(x);
  }

  resumeRequest(_x: Exchange): void {
    this.machine.isHeld = false;
    if (!this.machine.wantsPause) this.resumeReading();
  }

  abort(_x: Exchange, _code: number): void {
    // RFC 9112 §8: a message that is cut must look cut. The RST spares the client a clean end after a length or EOF body.
    abort(this.socket);
    this.destroy();
  }

  closeAfter(_x: Exchange): void {
    this.machine.closeAfterResponse();
  }

  tunnel(x: Exchange, other: Tunnel): boolean {
    if (this.closed) return false;
    const unread = this.machine.takeOver();
    this.#exchange = undefined;
    const socket = this.release();
    x.outcome = "complete";
    relay({ socket, unread, meter: this.meter }, other, this.runtime, () => this.#onClosed(this));
    return true;
  }

  // -----------------------------------------------------------------------------------------------------------------

  #responded(x: Exchange): void {
    if (x.requestEnded) this.#complete();
    else this.resumeReading();
  }

  #complete(): void {
    this.#exchange = undefined;
    if (!this.machine.keepAlive) return this.finish();
    this.#advance = true;
    this.#pump();
  }

  // A loop, not a recursion: a client may pipeline thousands of requests that are answered on the spot.
  #pump(): void {
    if (this.#advancing) return;
    this.#advancing = true;
    while (this.#advance && !this.closed && !this.finishing) {
      this.#advance = false;
      this.machine.advance(this.runtime.clock.now());
    }
    this.#advancing = false;
    if (this.closed || this.finishing) return;
    if (this.machine.wantsPause) this.pauseReading();
    else if (this.#exchange === undefined) this.resumeReading();
    this.runtime.wheel.arm(this);
  }
}

/** The error for an exchange whose connection to the endpoint ended under it. */
export function endpointLost(cause?: unknown): ProxyError {
  return new ProxyError("endpoint-reset", undefined, { cause });
}
