import type { Socket } from "node:net";
import { type ProtocolError, ProxyError } from "../core/errors.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { SocketMeter } from "../core/metrics.ts";
import { type ClientSide, type Exchange, INTERNAL_ERROR } from "../stack/exchange.ts";
import type { Http1ClientHandler } from "../wire/http1/handler.ts";
import { Http1Client, stripHopByHop } from "../wire/http1/index.ts";
import { Connection } from "./connection.ts";
import { endpointLost } from "./http1-server.ts";
import type { Runtime } from "./runtime.ts";

// RFC 9110 §9.2.2: asked twice is as asked once. Nothing else may be sent again by a proxy.
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Whether a request may go out once more if its connection ends before a byte of the answer. */
export function isReplayable(x: Exchange): boolean {
  return x.requestIsHeadOnly && IDEMPOTENT.has(x.request.method);
}

/** Who lends connections out: told when one is free again, gone, or was found dead on reuse. */
export interface Http1Owner {
  /** The connection may carry another request. */
  idle(connection: Http1ClientConnection): void;
  gone(connection: Http1ClientConnection): void;
  /** A reused connection turned out closed before any response: the request may go out on a new one. */
  again(x: Exchange): void;
}

/** Runs one HTTP/1 client machine on one socket: one exchange at a time. */
export class Http1ClientConnection extends Connection implements Http1ClientHandler, ClientSide {
  protected readonly machine: Http1Client;
  /** The pool's key: connections of different authorities are not shared. */
  readonly key: string;
  /** Monotonic; when the pool should close it if it stays unused. */
  idleUntil = 0;
  readonly #owner: Http1Owner;
  #exchange: Exchange | undefined;
  #used = false;
  #replayable = false;
  #requestBlocked = false;

  constructor(socket: Socket, runtime: Runtime, meter: SocketMeter, key: string, owner: Http1Owner) {
    super(socket, runtime, meter);
    this.key = key;
    this.#owner = owner;
    this.machine = new Http1Client(this, this.writer);
    this.run(undefined, "single");
  }

  dispatch(x: Exchange): void {
    const reused = this.#used;
    this.#used = true;
    this.#exchange = x;
    const headOnly = x.requestIsHeadOnly;
    this.#replayable = reused && isReplayable(x);
    this.machine.sendHead(x.request, headOnly);
    x.attach(this, headOnly);
    this.runtime.wheel.arm(this);
  }

  // --- what the machine reports ------------------------------------------------------------------------------------

  onInterim(head: ResponseHead): void {
    this.#replayable = false;
    this.#exchange?.interim(head);
  }

  onResponse(head: ResponseHead, endStream: boolean): void {
    const x = this.#exchange;
    if (x === undefined) return this.destroy();
    this.#replayable = false;
    if (
      x.upgrade &&
      (head.status === 101 || (x.request.method === "CONNECT" && head.status >= 200 && head.status < 300))
    ) {
      this.#tunnel(x, head);
      return;
    }
    const framing = stripHopByHop(head.headers);
    if (framing !== undefined) {
      this.#exchange = undefined;
      x.fail(
        new ProxyError("endpoint-reset", `endpoint sent an unusable response: Connection names ${framing}`),
        INTERNAL_ERROR,
      );
      return this.destroy();
    }
    if (endStream) this.#exchange = undefined;
    x.respond(head, endStream, this.runtime.clock.now());
    if (endStream) this.#complete();
  }

  onData(view: Buffer): void {
    const x = this.#exchange;
    if (x !== undefined && !x.responseData(view, false)) this.pauseReading();
  }

  onResponseEnd(trailers: HeaderList | undefined): void {
    // A body that only the end of the connection ends. Whose streams are open hears of the loss.
    if (this.wasCut) return this.destroy();
    const x = this.#exchange;
    this.#exchange = undefined;
    x?.responseEnd(trailers);
    this.#complete();
  }

  onError(error: ProtocolError): void {
    const x = this.#exchange;
    this.#exchange = undefined;
    // The server's FIN crossed the request.
    if (x !== undefined && error.side === "remote" && !this.machine.responseBegan && this.#replay(x)) {
      return this.destroy();
    }
    if (error.side === "remote") this.meter.refused(error.section);
    this.runtime.log.debug("unusable response", { why: error.message, rule: error.section });
    x?.fail(new ProxyError("endpoint-reset", "endpoint sent an unusable response", { cause: error }), INTERNAL_ERROR);
    this.destroy();
  }

  onEnd(): void {
    this.destroy();
  }

  protected drained(): void {
    if (!this.#requestBlocked) return;
    this.#requestBlocked = false;
    this.#exchange?.requestWritable();
  }

  protected lost(): void {
    const x = this.#exchange;
    this.#exchange = undefined;
    this.#owner.gone(this);
    if (x === undefined || x.ended) return;
    if (!this.#replay(x)) x.fail(endpointLost(), INTERNAL_ERROR);
  }

  // --- what the exchange asks for ----------------------------------------------------------------------------------

  sendData(_x: Exchange, view: Buffer, endStream: boolean): boolean {
    if (this.closed) return true;
    this.#replayable = false;
    if (view.length > 0) this.machine.sendData(view);
    if (endStream) {
      this.machine.sendEnd(undefined);
      return true;
    }
    if (!this.backedUp) return true;
    this.#requestBlocked = true;
    return false;
  }

  sendEnd(_x: Exchange, trailers: HeaderList | undefined): void {
    if (!this.closed) this.machine.sendEnd(trailers);
  }

  resumeResponse(_x: Exchange): void {
    this.resumeReading();
  }

  cancel(_x: Exchange, _code: number): void {
    this.#exchange = undefined;
    this.destroy();
  }

  /**
   * RFC 9112 §9.3.1: a request that met a closing idle connection, of which nothing was answered, goes out once more; on
   * a new connection, so that there is no third time.
   */
  #replay(x: Exchange): boolean {
    if (!this.#replayable || x.ended) return false;
    x.detach();
    this.#owner.again(x);
    return true;
  }

  #complete(): void {
    this.resumeReading();
    if (this.machine.reusable && !this.closed) this.#owner.idle(this);
    else this.destroy();
  }

  #tunnel(x: Exchange, head: ResponseHead): void {
    this.#exchange = undefined;
    if (head.status !== 101) {
      // RFC 9110 §9.3.6: a 2xx to CONNECT has no body, whatever it says.
      head.headers.remove(H.contentLength.lower);
      head.headers.remove(H.transferEncoding.lower);
    }
    x.requestEnded = true;
    x.respond(head, false, this.runtime.clock.now());
    const unread = this.machine.takeOver();
    const socket = this.release();
    this.#owner.gone(this);
    if (!x.server.tunnel(x, { socket, unread, meter: this.meter })) {
      socket.destroy();
      this.meter.closed("");
    }
    x.tunnelled();
  }
}
