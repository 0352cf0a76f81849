import type { Millis } from "../../core/clock.ts";
import { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { ByteSink, Lent, Machine } from "../../core/machine.ts";
import { Backlog } from "./backlog.ts";
import { BodyReader, type Delimiter } from "./body.ts";
import { FamiliarReader } from "./familiar.ts";
import { Framing } from "./framing.ts";
import type { Http1ClientHandler } from "./handler.ts";
import { isHost, isMethod, isTarget, parseResponseHead } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import { isUpgradeRequest } from "./hop-by-hop.ts";
import { DEFAULT_HTTP1_LIMITS, type Http1Limits } from "./limits.ts";
import { misuse, refuse } from "./refuse.ts";
import { BodyWriter, LineWriter } from "./writer.ts";

/*
 * What is written:   nothing ── sendHead ──► content ── sendEnd ──► sent
 *                                  └── endStream ─────────────────► sent
 *
 * What is read:      idle ── sendHead ──► head ── 1xx ──► head
 *                    head ── response ──► body ── last byte ──► idle
 *                    head ── response without content ────────► idle
 *                    head ── 101, or 2xx to CONNECT ──► tunnel ── takeOver() ──► over
 *                    any ── fault, the peer's end, content that lasts until then ──► over
 *
 * From idle with the request sent, the next request begins. A byte that comes while idle, or behind a response in the
 * same read, belongs to no request: the connection is over, and its next response will be nobody's.
 */
const NOTHING = Buffer.alloc(0);

type Writing = "nothing" | "content" | "sent" | "broken";
type Reading = "idle" | "head" | "body" | "tunnel" | "over";

/**
 * The client's side of one HTTP/1 connection: one request at a time.
 *
 * The driver sends a request only while {@link reusable}. It may do so, or take over, from within a handler's last call
 * for the response before.
 *
 * @see RFC 9112
 */
export class Http1Client implements Machine {
  readonly keepsChunks = true;
  readonly #handler: Http1ClientHandler;
  readonly #sink: ByteSink;
  readonly #limits: Http1Limits;
  readonly #head: HeadReader;
  readonly #familiar: FamiliarReader;
  readonly #framing = new Framing();
  readonly #body: BodyReader;
  readonly #lines = new LineWriter();
  readonly #content: BodyWriter;
  readonly #backlog = new Backlog();

  #writing: Writing = "sent";
  #reading: Reading = "idle";
  #keepAlive = true;
  #responseBegan = false;
  #interim = 0;
  // Of the request in progress.
  #isHead = false;
  #isConnect = false;
  #isUpgrade = false;
  #isHttp10 = false;

  constructor(handler: Http1ClientHandler, sink: ByteSink, limits: Http1Limits = DEFAULT_HTTP1_LIMITS) {
    this.#handler = handler;
    this.#sink = sink;
    this.#limits = limits;
    this.#head = new HeadReader(limits, false);
    this.#familiar = new FamiliarReader(limits);
    this.#body = new BodyReader(limits, 502);
    this.#content = new BodyWriter(sink);
  }

  /** Nothing is outstanding and the connection takes another request. */
  get reusable(): boolean {
    return this.#reading === "idle" && this.#writing === "sent" && this.#keepAlive;
  }

  /** Some byte came in answer to the request in progress. If none did, the server may not have seen it (RFC 9110 §9.2.2). */
  get responseBegan(): boolean {
    return this.#responseBegan;
  }

  receive(chunk: Buffer, _now: Millis): void {
    if (this.#reading === "over") return;
    if (chunk.length === 0) {
      this.#onHalfClose();
      return;
    }
    this.#responseBegan = true;
    this.#consume(chunk);
  }

  receiveLent(lent: Lent, length: number, _now: Millis): boolean {
    if (this.#reading !== "head" || this.#head.isPartial || this.#isUpgrade || this.#isConnect) return false;
    const head = this.#familiar.response(lent, length, this.#framing);
    if (head === undefined) return false;
    const { end } = this.#familiar;
    const rest = end < length ? lent.own(end, length) : NOTHING;
    this.#responseBegan = true;
    this.#onFinal(head, rest, 0);
    this.#consume(rest);
    return true;
  }

  /** Nothing: how long a response may take is decided by whoever sent the request. */
  timeoutAt(): Millis | undefined {
    return undefined;
  }

  expire(_now: Millis): void {}

  /**
   * A request, in the form that `head.form` says. Content-Length among its fields frames the content, otherwise it is
   * chunked; a request that ends here gains neither. Host is added where it is missing and must be there: in 1.1, and in
   * absolute-form.
   */
  sendHead(head: RequestHead, endStream: boolean): void {
    if (this.#writing === "broken") return;
    const fault = this.reusable ? this.#writeHead(head, endStream) : "request on a connection that is not free";
    if (fault !== undefined) this.#break(fault);
  }

  sendData(view: Buffer): void {
    // The response may have ended the connection before the request was out.
    if (this.#writing === "broken" || this.#reading === "over") return;
    if (this.#writing !== "content") this.#break("content outside a request");
    else if (!this.#content.data(view)) this.#break("more content than content-length");
  }

  /** @param trailers - Sent if the content is chunked. */
  sendEnd(trailers: HeaderList | undefined): void {
    if (this.#writing === "broken" || this.#reading === "over") return;
    if (this.#writing !== "content") this.#break("end outside a request");
    else if (!this.#content.end(trailers)) this.#break("less content than content-length, or a broken trailer");
    else this.#writing = "sent";
  }

  /** Stops being HTTP. @returns The bytes that were read and belong to what comes after HTTP. */
  takeOver(): Buffer {
    this.#reading = "over";
    return this.#backlog.take();
  }

  /** @returns What cannot be said, and then nothing was written. */
  #writeHead(head: RequestHead, endStream: boolean): string | undefined {
    const target = requestTarget(head);
    if (target === undefined || !isTarget(target) || !isMethod(head.method)) return "malformed request line";
    this.#isHttp10 = head.version === "1.0";
    this.#isHead = head.method === "HEAD";
    this.#isConnect = head.method === "CONNECT";
    this.#isUpgrade = !this.#isConnect && isUpgradeRequest(head);

    const lines = this.#lines;
    const fault = lines.fields(head.headers, this.#isUpgrade);
    if (fault !== undefined) return fault;
    const length = lines.contentLength;
    let delimiter: Delimiter = "none";
    if (this.#isConnect) {
      if (!endStream || length > 0) return "CONNECT with content";
    } else if (endStream) {
      if (length > 0) return "content-length without content";
      if (length === 0) lines.line("content-length: 0\r\n");
    } else if (length >= 0) {
      delimiter = "length";
      lines.line(`content-length: ${length}\r\n`);
    } else if (this.#isHttp10) {
      return "HTTP/1.0 request with content of unknown length";
    } else {
      delimiter = "chunked";
      lines.line("transfer-encoding: chunked\r\n");
    }
    // RFC 9110 §10.1.4: whoever passes requests on and does not know TE must drop it.
    if (lines.hasTe) lines.line(this.#isUpgrade ? "connection: upgrade, te\r\n" : "connection: te\r\n");
    else if (this.#isUpgrade) lines.line("connection: upgrade\r\n");
    let host = "";
    if (!lines.hasHost && (!this.#isHttp10 || head.form === "absolute")) {
      // RFC 9112 §3.2: first, and empty if the target has no authority.
      if (head.authority !== undefined && !isHost(head.authority)) return "malformed authority";
      host = `host: ${head.authority ?? ""}\r\n`;
    }
    const version = this.#isHttp10 ? "HTTP/1.0" : "HTTP/1.1";
    if (!lines.write(this.#sink, head.method, target, version, host)) return "control character in a head";
    this.#content.begin(delimiter, length);
    this.#writing = endStream ? "sent" : "content";
    this.#reading = "head";
    this.#responseBegan = false;
    this.#interim = 0;
    return undefined;
  }

  #consume(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#reading) {
        case "head":
          at = this.#readHead(chunk, at);
          break;
        case "body":
          at = this.#readBody(chunk, at);
          break;
        case "tunnel":
          this.#backlog.append(chunk, at, chunk.length);
          return;
        case "idle":
          // RFC 9112 §9.2: bytes without a request are no response.
          this.#fail(refuse(502, "RFC 9112 §9.2", "bytes outside a response"));
          return;
        case "over":
          return;
        default:
          this.#reading satisfies never;
      }
    }
  }

  #readHead(chunk: Buffer, at: number): number {
    const reader = this.#head;
    const next = reader.read(chunk, at);
    if (reader.error !== undefined) this.#fail(reader.error);
    else if (reader.text !== undefined) return this.#onHead(chunk, next);
    return next;
  }

  #onHead(chunk: Buffer, next: number): number {
    const framing = this.#framing;
    const head = parseResponseHead(this.#head, framing, this.#limits);
    this.#head.reset();
    if (head instanceof ProtocolError) {
      this.#fail(head);
    } else if (head.status < 200 && head.status !== 101) {
      if (++this.#interim > this.#limits.maxInterim) {
        this.#fail(refuse(502, "RFC 9110 §15.2", "too many interim responses"));
      } else this.#handler.onInterim(head);
    } else this.#onFinal(head, chunk, next);
    // The bytes behind the head that ends HTTP are set aside already.
    return this.#reading === "tunnel" ? chunk.length : next;
  }

  #onFinal(head: ResponseHead, chunk: Buffer, next: number): void {
    const framing = this.#framing;
    const { status } = head;
    if (status === 101 ? this.#isUpgrade : this.#isConnect && status < 300) {
      this.#keepAlive = false;
      this.#reading = "tunnel";
      // Before the handler is told, so that taking over from within finds them.
      this.#backlog.append(chunk, next, chunk.length);
      this.#handler.onResponse(head, true);
      return;
    }
    if (status === 101) {
      this.#fail(refuse(502, "RFC 9110 §15.2.2", "101 without a request to upgrade"));
      return;
    }
    this.#keepAlive =
      !framing.close && !this.#isHttp10 && !this.#isConnect && (head.version !== "1.0" || framing.keepAlive);
    // RFC 9112 §6.3, in its order.
    if (this.#isHead || status === 204 || status === 304) {
      this.#onBodiless(head, chunk, next);
      return;
    }
    if (framing.chunked) this.#body.begin("chunked", 0);
    else if (framing.contentLength > 0) this.#body.begin("length", framing.contentLength);
    else if (framing.contentLength === 0) {
      this.#onBodiless(head, chunk, next);
      return;
    } else {
      this.#keepAlive = false;
      this.#body.begin("close", 0);
    }
    this.#reading = "body";
    this.#handler.onResponse(head, false);
  }

  #onBodiless(head: ResponseHead, chunk: Buffer, next: number): void {
    this.#endResponse(next === chunk.length);
    this.#handler.onResponse(head, true);
  }

  #readBody(chunk: Buffer, at: number): number {
    const body = this.#body;
    const next = body.step(chunk, at);
    if (body.error !== undefined) {
      this.#fail(body.error);
      return chunk.length;
    }
    const { isEnd } = body;
    const size = body.dataTo - body.dataFrom;
    if (size > 0) this.#handler.onData(size === chunk.length ? chunk : chunk.subarray(body.dataFrom, body.dataTo));
    // The handler may have broken off.
    if (isEnd && this.#reading === "body") {
      this.#endResponse(next === chunk.length);
      this.#handler.onResponseEnd(body.trailers);
    }
    return next;
  }

  /** Before the handler is told, because it may use the connection again from within that call. */
  #endResponse(isLastByte: boolean): void {
    // Content where there must be none, or a response nobody asked for: not forwarded, and never the next one's begin.
    this.#reading = isLastByte ? "idle" : "over";
  }

  #onHalfClose(): void {
    switch (this.#reading) {
      case "idle":
        this.#reading = "over";
        this.#handler.onEnd();
        break;
      case "head":
        this.#fail(refuse(502, "RFC 9112 §8", "closed before the response"));
        break;
      case "body":
        if (!this.#body.isUntilClose) {
          this.#fail(refuse(502, "RFC 9112 §8", "closed inside the response's content"));
          break;
        }
        this.#reading = "over";
        this.#handler.onResponseEnd(undefined);
        break;
      case "tunnel":
      case "over":
        break;
      default:
        this.#reading satisfies never;
    }
  }

  #fail(error: ProtocolError): void {
    this.#reading = "over";
    this.#backlog.clear();
    this.#handler.onError(error);
  }

  /** What was asked for cannot be said: nothing more is sent, because the server would take it for something else. */
  #break(message: string): void {
    this.#writing = "broken";
    this.#fail(misuse("RFC 9112 §6", message));
  }
}

function requestTarget(head: RequestHead): string | undefined {
  switch (head.form) {
    case "origin":
      return head.path;
    case "asterisk":
      return "*";
    case "authority":
      return head.authority;
    case "absolute":
      return head.authority === undefined ? undefined : `${head.scheme}://${head.authority}${head.path}`;
    default:
      return head.form satisfies never;
  }
}
