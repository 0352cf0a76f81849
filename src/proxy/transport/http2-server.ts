import type { Socket } from "node:net";
import type { ProtocolError } from "../core/errors.ts";
import type { HeaderList } from "../core/header.ts";
import type { RequestHead, ResponseHead } from "../core/http.ts";
import type { SocketMeter } from "../core/metrics.ts";
import { CANCEL, Exchange, type Peer, type ServerSide, type Tunnel } from "../stack/exchange.ts";
import type { Service } from "../stack/service.ts";
import type { Http2ServerHandler } from "../wire/http2/handler.ts";
import { type Http2Options, Http2Server, type Http2Stream } from "../wire/http2/index.ts";
import { Connection } from "./connection.ts";
import type { Runtime } from "./runtime.ts";
import type { ServerConnection } from "./server-connection.ts";
import type { Pace } from "./socket-reader.ts";

// Of what comes in one read, so many requests are passed on as they are met, the others once all of it is read. A request
// that is reset in the same read (CVE-2023-44487) then costs the application nothing, whose own defence would otherwise
// end the connection that all our clients share: Node's takes 1,000 resets and then 33 per second.
const MAX_EAGER = 8;
// Linkerd: LINKERD2_PROXY_{IN,OUT}BOUND_SERVER_HTTP2_KEEP_ALIVE_{INTERVAL,TIMEOUT}, 10 s and 3 s in the chart.
const KEEP_ALIVE = { intervalMs: 10_000, timeoutMs: 3_000, whileIdle: true };

/** Runs one HTTP/2 server machine on one socket: each stream is an exchange. */
export class Http2ServerConnection extends Connection implements Http2ServerHandler, ServerSide, ServerConnection {
  protected readonly machine: Http2Server;
  readonly #peer: Peer;
  readonly #service: Service;
  readonly #onClosed: (connection: ServerConnection) => void;
  readonly #pace: Pace;
  /** Exchanges that were told to stop because the socket is full. */
  #blocked: Exchange[] = [];
  /** Requests of the present read that were passed on at once, and the others. */
  #eager = 0;
  #later: Exchange[] = [];
  #failed = false;
  #started = false;
  /** The drain began before the connection did. */
  #drainsAtStart = false;

  constructor(
    socket: Socket,
    runtime: Runtime,
    meter: SocketMeter,
    peer: Peer,
    service: Service,
    options: Partial<Http2Options>,
    onClosed: (connection: ServerConnection) => void,
  ) {
    super(socket, runtime, meter);
    this.#peer = peer;
    this.#service = service;
    this.#onClosed = onClosed;
    this.#pace = options.trusted === true ? "shared" : "line";
    this.machine = new Http2Server(this, this.writer, { extendedConnect: true, keepAlive: KEEP_ALIVE, ...options });
  }

  start(first: Buffer | undefined): void {
    this.machine.start(this.runtime.clock.now());
    this.#started = true;
    if (this.#drainsAtStart) this.drain();
    this.run(first, this.#pace);
  }

  drain(): void {
    if (this.closed) return;
    if (!this.#started) {
      // RFC 9113 §3.4: nothing comes before our SETTINGS.
      this.#drainsAtStart = true;
      return;
    }
    this.machine.shutdown();
    this.#closeIfDone();
    this.runtime.wheel.arm(this);
  }

  // --- what the machine reports ------------------------------------------------------------------------------------

  onRequest(stream: Http2Stream, head: RequestHead, endStream: boolean): void {
    const x = new Exchange(this, this.#peer, head, endStream, this.runtime.clock.now());
    stream.context = x;
    x.serverStream = stream;
    if (this.#eager < MAX_EAGER) {
      this.#eager++;
      this.#service.call(x);
    } else this.#later.push(x);
  }

  onData(stream: Http2Stream, view: Buffer, endStream: boolean): void {
    const x = stream.context as Exchange;
    if (x.ended) {
      this.machine.credit(stream, view.length);
      return;
    }
    if (x.requestData(view, endStream)) this.machine.credit(stream, view.length);
    else {
      x.requestHeldBytes += view.length;
      this.machine.hold(stream, view.length);
    }
  }

  onTrailers(stream: Http2Stream, trailers: HeaderList): void {
    (stream.context as Exchange).requestEnd(trailers);
  }

  onReset(stream: Http2Stream, code: number, remote: boolean): void {
    // A rule that the client broke is no word of the client's.
    (stream.context as Exchange | undefined)?.clientGone(remote ? code : CANCEL);
    this.#closeIfDone();
  }

  onWritable(stream: Http2Stream): void {
    if (this.backedUp) this.#blocked.push(stream.context as Exchange);
    else (stream.context as Exchange).responseWritable();
  }

  onGoaway(_lastStreamId: number, _code: number): void {
    this.#closeIfDone();
  }

  onConnectionError(error: ProtocolError): void {
    this.#failed = true;
    this.meter.refused(error.section);
    this.runtime.log.debug("closed an HTTP/2 connection", {
      client: this.#peer.address.ip,
      why: error.message,
      rule: error.section,
    });
    this.finish();
  }

  onEnd(): void {
    this.finish();
  }

  // The second GOAWAY of a drain comes by itself and is no event.
  protected override afterReceive(): void {
    this.#eager = 0;
    if (this.#later.length > 0) this.#dispatchLater();
    this.#closeIfDone();
  }

  protected drained(): void {
    const blocked = this.#blocked;
    if (blocked.length === 0) return;
    this.#blocked = [];
    for (const x of blocked) x.responseWritable();
  }

  protected lost(): void {
    // Reports every open stream through onReset.
    if (!this.#failed) this.machine.receive(NOTHING, this.runtime.clock.now());
    this.#onClosed(this);
  }

  // --- what the exchange asks for ----------------------------------------------------------------------------------

  sendInterim(x: Exchange, head: ResponseHead): void {
    if (!this.closed) this.machine.sendInterim(x.serverStream as Http2Stream, head);
  }

  sendResponse(x: Exchange, head: ResponseHead, endStream: boolean): void {
    if (this.closed) return;
    if (head.status >= 200) this.runtime.date.addTo(head.headers);
    this.machine.sendHead(x.serverStream as Http2Stream, head, endStream);
    if (endStream) this.#closeIfDone();
  }

  sendData(x: Exchange, view: Buffer, endStream: boolean): boolean {
    if (this.closed) return true;
    const sent = this.machine.sendData(x.serverStream as Http2Stream, view, endStream);
    if (endStream) {
      this.#closeIfDone();
      return true;
    }
    if (!sent) {
      // The machine limits how long data may wait for a window.
      this.runtime.wheel.arm(this);
      return false;
    }
    if (!this.backedUp) return true;
    if (this.#blocked.at(-1) !== x) this.#blocked.push(x);
    return false;
  }

  sendEnd(x: Exchange, trailers: HeaderList | undefined): void {
    if (this.closed) return;
    const stream = x.serverStream as Http2Stream;
    if (trailers === undefined) this.machine.sendData(stream, NOTHING, true);
    else this.machine.sendTrailers(stream, trailers);
    this.#closeIfDone();
  }

  resumeRequest(x: Exchange): void {
    const held = x.requestHeldBytes;
    x.requestHeldBytes = 0;
    if (held > 0 && !this.closed) this.machine.credit(x.serverStream as Http2Stream, held);
  }

  abort(x: Exchange, code: number): void {
    if (this.closed) return;
    this.machine.reset(x.serverStream as Http2Stream, code);
    this.#closeIfDone();
  }

  closeAfter(_x: Exchange): void {
    this.drain();
  }

  tunnel(_x: Exchange, _other: Tunnel): boolean {
    return false;
  }

  #dispatchLater(): void {
    const later = this.#later;
    this.#later = [];
    for (const x of later) if (!x.ended) this.#service.call(x);
  }

  #closeIfDone(): void {
    if (this.closed || this.finishing) return;
    if (this.machine.isGoingAway && this.machine.openStreams === 0 && !this.machine.isShuttingDown) this.finish();
  }
}

const NOTHING = Buffer.alloc(0);
