import type { Millis } from "../../core/clock.ts";
import { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { ByteSink, Lent, Machine } from "../../core/machine.ts";
import { Backlog } from "./backlog.ts";
import { BodyReader, type Delimiter } from "./body.ts";
import { FamiliarReader } from "./familiar.ts";
import { Framing } from "./framing.ts";
import type { Http1ServerHandler } from "./handler.ts";
import { parseRequestHead } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import { isUpgradeRequest } from "./hop-by-hop.ts";
import { DEFAULT_HTTP1_LIMITS, type Http1Limits } from "./limits.ts";
import { reasonPhrase } from "./reason-phrase.ts";
import { misuse, refuse } from "./refuse.ts";
import { BodyWriter, LineWriter } from "./writer.ts";

/*
 * What is read:
 *
 *   head ──request──► body ──last byte──► read ──advance(), once the response is complete──► head
 *     └──request without content────────► read
 *   read ── 101, or 2xx to CONNECT, is sent ──► tunnel ── takeOver() ──► over
 *   any ── fault, time over, takeOver(), orderly end ──► over
 *
 * What is written, per request:
 *
 *   nothing ── sendInterim ──► nothing ── sendHead ──► content ── sendEnd ──► complete
 *                                            └── endStream ──────────────────► complete
 *   any ── what cannot be said ──► broken      nothing ── a head that cannot be said ──► nothing, once
 *
 * Ours rather than the RFC's: one exchange at a time. What a client sends ahead stays unread in a bounded backlog.
 */
const NOTHING = Buffer.alloc(0);

type Reading = "head" | "body" | "read" | "tunnel" | "over";
type Writing = "nothing" | "content" | "complete" | "broken";

/**
 * The server's side of one HTTP/1 connection.
 *
 * The driver calls {@link advance} once at the start and then whenever an exchange is {@link isComplete}, and closes
 * after a response when {@link keepAlive} is false. It may answer from within a handler's call. After `onError` it may
 * still send one response, if none was begun.
 *
 * @see RFC 9112
 */
export class Http1Server implements Machine {
  readonly keepsChunks = true;
  /** False once the connection must close after the response in progress. */
  keepAlive = true;
  /** True while more than {@link Http1Limits.maxPipelinedBytes} wait for the response in progress: stop reading. */
  wantsPause = false;
  /** Set by the driver while it does not read for its own reasons: then a client cannot be too slow. */
  isHeld = false;

  readonly #handler: Http1ServerHandler;
  readonly #sink: ByteSink;
  readonly #limits: Http1Limits;
  readonly #head: HeadReader;
  readonly #familiar: FamiliarReader;
  readonly #framing = new Framing();
  readonly #body: BodyReader;
  readonly #lines = new LineWriter();
  readonly #content: BodyWriter;
  readonly #backlog = new Backlog();

  #reading: Reading = "head";
  #writing: Writing = "nothing";
  #isReceiving = false;
  #halfClosed = false;
  /** Set by {@link wrapUp}. */
  #patienceMs: Millis | undefined;
  /** Something was asked for that cannot be said. */
  #isBroken = false;
  #deadline: Millis | undefined = undefined;
  /** Bytes of content since the present window began; after the response: since it was complete. */
  #contentBytes = 0;

  // Of the request in progress.
  #isHead = false;
  #isConnect = false;
  #isUpgrade = false;
  #isHttp10 = false;

  constructor(handler: Http1ServerHandler, sink: ByteSink, limits: Http1Limits = DEFAULT_HTTP1_LIMITS) {
    this.#handler = handler;
    this.#sink = sink;
    this.#limits = limits;
    this.#head = new HeadReader(limits, true);
    this.#familiar = new FamiliarReader(limits);
    this.#body = new BodyReader(limits, 400);
    this.#content = new BodyWriter(sink);
  }

  /** The request is read and the response written, both to their last byte. */
  get isComplete(): boolean {
    return this.#reading === "read" && this.#writing === "complete";
  }

  receive(chunk: Buffer, now: Millis): void {
    if (this.#reading === "over") return;
    if (chunk.length === 0) {
      this.#halfClosed = true;
      this.#endIfHalfClosed();
      return;
    }
    if (this.#isReceiving) this.#keep(chunk, 0);
    else this.#consume(chunk, now);
  }

  receiveLent(lent: Lent, length: number, now: Millis): boolean {
    if (this.#reading !== "head" || this.#isReceiving || this.#head.isPartial) return false;
    const head = this.#familiar.request(lent, length, this.#framing);
    if (head === undefined) return false;
    const { end } = this.#familiar;
    const rest = end < length ? lent.own(end, length) : NOTHING;
    this.#isReceiving = true;
    this.#onRequest(head, now);
    this.#consume(rest, now);
    return true;
  }

  timeoutAt(): Millis | undefined {
    return this.#deadline;
  }

  expire(now: Millis): void {
    if (this.#deadline === undefined || now < this.#deadline) return;
    this.#deadline = undefined;
    if (this.#reading === "head") {
      if (this.#head.isPartial) this.#fail(refuse(408, "RFC 9110 §15.5.9", "request head took too long"));
      else this.#end();
    } else if (this.#reading === "body") {
      const isSlow = this.#contentBytes < this.#limits.minContentBytes;
      if (isSlow && !this.isHeld && this.#writing === "nothing") {
        this.#fail(refuse(408, "RFC 9110 §15.5.9", "request content took too long"));
      } else this.#beginContentWindow(now);
    }
  }

  /**
   * Turns to the next request once the exchange {@link isComplete}, and reads what came ahead of its time. Called at the
   * start of a connection it begins the time for the first request. Does nothing otherwise.
   */
  advance(now: Millis): void {
    if (!this.keepAlive) return;
    if (this.isComplete) {
      this.#head.reset();
      this.#reading = "head";
      this.#writing = "nothing";
    } else if (this.#reading !== "head") return;
    if (this.#patienceMs !== undefined) this.keepAlive = false;
    if (!this.#head.isPartial) {
      const idleMs = this.#patienceMs ?? this.#limits.idleTimeoutMs;
      this.#deadline = idleMs === undefined ? undefined : now + idleMs;
    }
    if (this.#isReceiving) return;
    this.wantsPause = false;
    if (this.#backlog.length > 0) this.#consume(this.#backlog.take(), now);
    else this.#endIfHalfClosed();
  }

  /** Announces the connection's end on the next response head, or just ends it if that is on its way. */
  closeAfterResponse(): void {
    this.keepAlive = false;
  }

  /**
   * Ends the connection without losing a request: whichever response head comes next announces the end, so that the
   * client does not send into a connection that is closing. A client that is silent gets `patienceMs` for that request.
   */
  wrapUp(now: Millis, patienceMs: Millis): void {
    if (this.#writing === "nothing") this.keepAlive = false;
    this.#patienceMs = patienceMs;
    if (this.#reading === "head" && !this.#head.isPartial) this.#deadline = now + patienceMs;
  }

  /** An interim response other than 101. Left out for HTTP/1.0, which does not know them (RFC 9110 §15.2). */
  sendInterim(head: ResponseHead): void {
    if (this.#writing === "broken") return;
    const fault = this.#writeInterim(head);
    if (fault !== undefined) this.#break(fault);
  }

  /**
   * The final response, or 101. Content-Length among its fields frames the content; without it content is chunked, and
   * for HTTP/1.0 ends with the connection. Only a response whose end is known here gains `content-length: 0`.
   */
  sendHead(head: ResponseHead, endStream: boolean): void {
    if (this.#writing === "broken") return;
    const fault = this.#writeHead(head, endStream);
    if (fault !== undefined) this.#break(fault);
  }

  sendData(view: Buffer): void {
    if (this.#writing === "broken") return;
    if (this.#writing !== "content") this.#break("content outside a response");
    else if (!this.#content.data(view)) this.#break("more content than content-length");
  }

  /** @param trailers - Sent if the content is chunked. */
  sendEnd(trailers: HeaderList | undefined): void {
    if (this.#writing === "broken") return;
    if (this.#writing !== "content") this.#break("end outside a response");
    else if (!this.#content.end(trailers)) this.#break("less content than content-length, or a broken trailer");
    else this.#completeResponse();
  }

  /** Stops being HTTP. @returns The bytes that were read and belong to what comes after HTTP. */
  takeOver(): Buffer {
    this.#reading = "over";
    this.#deadline = undefined;
    this.wantsPause = false;
    return this.#backlog.take();
  }

  #consume(chunk: Buffer, now: Millis): void {
    this.#isReceiving = true;
    let at = 0;
    while (at < chunk.length) {
      switch (this.#reading) {
        case "head":
          at = this.#readHead(chunk, at, now);
          break;
        case "body":
          at = this.#readBody(chunk, at);
          break;
        case "read":
        case "tunnel":
          this.#keep(chunk, at);
          at = chunk.length;
          break;
        case "over":
          at = chunk.length;
          break;
        default:
          this.#reading satisfies never;
      }
    }
    this.#isReceiving = false;
    if (this.#reading === "head" && this.#backlog.length > 0) this.#consume(this.#backlog.take(), now);
    else this.#endIfHalfClosed();
  }

  #readHead(chunk: Buffer, at: number, now: Millis): number {
    const reader = this.#head;
    const wasPartial = reader.isPartial;
    const next = reader.read(chunk, at);
    if (reader.error !== undefined) this.#fail(reader.error);
    else if (reader.text !== undefined) this.#onHead(now);
    else if (!wasPartial && reader.isPartial) this.#deadline = now + this.#limits.headTimeoutMs;
    return next;
  }

  #onHead(now: Millis): void {
    const framing = this.#framing;
    const head = parseRequestHead(this.#head, framing, this.#limits);
    this.#head.reset();
    if (head instanceof ProtocolError) this.#fail(head);
    else this.#onRequest(head, now);
  }

  #onRequest(head: RequestHead, now: Millis): void {
    const framing = this.#framing;
    this.#begin(head);
    const endStream = !framing.chunked && framing.contentLength <= 0;
    if (endStream) {
      this.#reading = "read";
      this.#deadline = undefined;
    } else {
      this.#reading = "body";
      this.#body.begin(framing.chunked ? "chunked" : "length", framing.contentLength);
      this.#beginContentWindow(now);
    }
    this.#handler.onRequest(head, endStream);
  }

  #begin(head: RequestHead): void {
    const framing = this.#framing;
    this.#isHttp10 = head.version === "1.0";
    this.#isHead = head.method === "HEAD";
    this.#isConnect = head.method === "CONNECT";
    this.#isUpgrade = !this.#isConnect && isUpgradeRequest(head);
    // RFC 9112 §9.3.
    this.keepAlive &&= !framing.close && (!this.#isHttp10 || framing.keepAlive);
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
    if (size > 0) {
      this.#contentBytes += size;
      if (this.#writing === "complete" && this.#contentBytes > this.#limits.maxUnreadBytes) {
        this.#fail(refuse(413, "RFC 9112 §9.6", "content went on long after the response"));
        return chunk.length;
      }
      this.#handler.onData(size === chunk.length ? chunk : chunk.subarray(body.dataFrom, body.dataTo));
    }
    // The handler may have broken off.
    if (isEnd && this.#reading === "body") {
      this.#reading = "read";
      this.#deadline = undefined;
      this.#handler.onRequestEnd(body.trailers);
    }
    return next;
  }

  #beginContentWindow(now: Millis): void {
    const { contentWindowMs } = this.#limits;
    this.#contentBytes = 0;
    this.#deadline = contentWindowMs === undefined ? undefined : now + contentWindowMs;
  }

  #keep(chunk: Buffer, at: number): void {
    // RFC 9112 §9.6: what follows a request that closes the connection is not read.
    if (!this.keepAlive && !this.#isConnect && !this.#isUpgrade) return;
    this.#backlog.append(chunk, at, chunk.length);
    if (this.#backlog.length > this.#limits.maxPipelinedBytes) this.wantsPause = true;
  }

  /** @returns What cannot be said, and then nothing was written. */
  #writeInterim(head: ResponseHead): string | undefined {
    if (this.#writing !== "nothing") return "interim response after the final one";
    if (head.status < 100 || head.status > 199 || head.status === 101) return "not an interim status";
    if (this.#isHttp10) return undefined;
    return this.#lines.fields(head.headers, false) ?? this.#writeLines(head);
  }

  /** @returns What cannot be said, and then nothing was written. */
  #writeHead(head: ResponseHead, endStream: boolean): string | undefined {
    if (this.#writing !== "nothing") return "second response head";
    const { status } = head;
    const isSwitch = status === 101;
    if (status < 200 && !(isSwitch && this.#isUpgrade && this.#reading === "read")) return "not a final status";
    const isTunnel = isSwitch || (this.#isConnect && status < 300);

    const lines = this.#lines;
    const fault = lines.fields(head.headers, isSwitch);
    if (fault !== undefined) return fault;
    const length = lines.contentLength;
    let delimiter: Delimiter = "none";
    if (isTunnel || status === 204) {
      // RFC 9110 §8.6: neither has a length.
    } else if (this.#isHead || status === 304) {
      // RFC 9110 §8.6: the length that the answer to GET would have.
      if (length >= 0) lines.line(`content-length: ${length}\r\n`);
    } else if (endStream) {
      if (length > 0) return "content-length without content";
      lines.line("content-length: 0\r\n");
    } else if (length >= 0) {
      delimiter = "length";
      lines.line(`content-length: ${length}\r\n`);
    } else if (this.#isHttp10) {
      delimiter = "close";
      this.keepAlive = false;
    } else {
      delimiter = "chunked";
      lines.line("transfer-encoding: chunked\r\n");
    }
    // A client that asked for a tunnel may already be talking as if it had one.
    if (this.#isConnect && !isTunnel) this.keepAlive = false;
    if (isSwitch) lines.line("connection: upgrade\r\n");
    else if (!isTunnel) {
      if (!this.keepAlive) lines.line("connection: close\r\n");
      else if (this.#isHttp10) lines.line("connection: keep-alive\r\n");
    }
    const unwritten = this.#writeLines(head);
    if (unwritten !== undefined) return unwritten;
    this.#content.begin(delimiter, length);
    if (isTunnel) {
      this.#writing = "complete";
      if (this.#reading === "read") this.#reading = "tunnel";
    } else if (endStream) this.#completeResponse();
    else this.#writing = "content";
    return undefined;
  }

  #writeLines(head: ResponseHead): string | undefined {
    // Clients of 1.0 get 1.0 back, as from Linkerd.
    const version = this.#isHttp10 ? "HTTP/1.0" : "HTTP/1.1";
    const { status, reason } = head;
    const isWritten = this.#lines.write(this.#sink, version, `${status}`, reason ?? reasonPhrase(status), "");
    return isWritten ? undefined : "control character in a head";
  }

  #completeResponse(): void {
    this.#writing = "complete";
    this.#contentBytes = 0;
  }

  #endIfHalfClosed(): void {
    if (!this.#halfClosed || this.#isReceiving) return;
    if (this.#reading === "body") this.#fail(refuse(400, "RFC 9112 §8", "closed inside a request's content"));
    else if (this.#reading === "head") {
      if (this.#head.isPartial) this.#fail(refuse(400, "RFC 9112 §8", "closed inside a request's head"));
      else this.#end();
    } else if (this.#reading === "read" && this.#backlog.length === 0) this.keepAlive = false;
  }

  #end(): void {
    this.#reading = "over";
    this.#deadline = undefined;
    this.keepAlive = false;
    this.#handler.onEnd();
  }

  #fail(error: ProtocolError): void {
    if (this.#reading === "head") {
      // Nothing is known of the request that the answer will refuse.
      this.#isHead = false;
      this.#isConnect = false;
      this.#isUpgrade = false;
    }
    this.#reading = "over";
    this.#deadline = undefined;
    this.keepAlive = false;
    this.wantsPause = false;
    this.#backlog.clear();
    this.#handler.onError(error);
  }

  /**
   * What was asked for cannot be said. Once part of a response is out, nothing more is sent: the client would take it for
   * something else. Before that, one more head may try to be an answer.
   */
  #break(message: string): void {
    const isHopeless = this.#writing !== "nothing" || this.#isBroken;
    this.#isBroken = true;
    if (isHopeless) this.#writing = "broken";
    this.#fail(misuse("RFC 9112 §6", message));
  }
}
