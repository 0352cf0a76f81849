import type { ProtocolError } from "../../src/proxy/core/errors.ts";
import { HeaderList, headerName } from "../../src/proxy/core/header.ts";
import type { RequestHead, ResponseHead } from "../../src/proxy/core/http.ts";
import type { Lent, Machine } from "../../src/proxy/core/machine.ts";
import {
  Http1Client,
  type Http1ClientHandler,
  type Http1Limits,
  Http1Server,
  type Http1ServerHandler,
  isUpgradeRequest,
  stripHopByHop,
} from "../../src/proxy/wire/http1/index.ts";
import { TestSink } from "./sink.ts";

const bytes = Buffer.allocUnsafeSlow(64 * 1024);
const lent: Lent = {
  bytes,
  view: new DataView(bytes.buffer),
  own: (from, to) => Buffer.from(bytes.subarray(from, to)),
};
// What another connection left behind: nobody may take it for his own.
const LEFT_BEHIND = Buffer.from("\r\nx-left: behind\r\n\r\nGET /left HTTP/1.1\r\nhost: left\r\n\r\n");

/** Gives bytes to a machine as a socket's reader does: lent first. @returns Whether it took them so. */
export function lend(machine: Machine, chunk: Buffer, now = 0): boolean {
  if (chunk.length > 0 && chunk.length <= bytes.length) {
    chunk.copy(bytes);
    LEFT_BEHIND.copy(bytes, chunk.length);
    const isTaken = machine.receiveLent?.(lent, chunk.length, now) ?? false;
    bytes.fill("lost", 0, chunk.length);
    if (isTaken) return true;
  }
  machine.receive(chunk, now);
  return false;
}

export function latin1(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

export function headers(...fields: readonly (readonly [name: string, value: string])[]): HeaderList {
  const list = new HeaderList();
  for (const [text, value] of fields) {
    const name = headerName(text);
    if (name === undefined) throw new Error(`not a field name: ${text}`);
    list.add(name, value);
  }
  return list;
}

export function requestHead(more: Partial<RequestHead> = {}): RequestHead {
  return {
    method: "GET",
    scheme: "http",
    authority: "a",
    path: "/",
    form: "origin",
    version: "1.1",
    headers: headers(["Host", "a"]),
    protocol: undefined,
    ...more,
  };
}

export function responseHead(status: number, list = headers(), more: Partial<ResponseHead> = {}): ResponseHead {
  return { status, version: "1.1", headers: list, reason: undefined, ...more };
}

function fieldLines(list: HeaderList): string {
  return list.names.map((name, i) => ` ${name.lower}=${list.values[i]}`).join("");
}

/** What both recorders share: one line per event, content merged over pieces. */
class Recorder {
  readonly events: string[] = [];
  error: ProtocolError | undefined = undefined;
  /** Called after an event was written down, with its first word. */
  react: ((event: string) => void) | undefined = undefined;
  #content: Buffer[] = [];

  onData(view: Buffer): void {
    if (view.length === 0) throw new Error("empty view");
    this.#content.push(view);
    this.react?.("data");
  }

  onError(error: ProtocolError): void {
    this.error = error;
    this.note(`error ${error.side} ${error.code}`);
  }

  onEnd(): void {
    this.note("end");
  }

  /** The events so far, those from before the last call left out. */
  take(): string[] {
    this.#flush();
    return this.events.splice(0);
  }

  protected note(event: string): void {
    this.#flush();
    this.events.push(event);
    this.react?.(event.split(" ")[0] as string);
  }

  #flush(): void {
    if (this.#content.length === 0) return;
    this.events.push(`data ${Buffer.concat(this.#content.splice(0)).toString("latin1")}`);
  }
}

export class ServerRecorder extends Recorder implements Http1ServerHandler {
  readonly sink = new TestSink();
  readonly machine: Http1Server;
  head: RequestHead | undefined = undefined;

  constructor(limits?: Http1Limits) {
    super();
    this.machine = new Http1Server(this, this.sink, limits);
  }

  onRequest(head: RequestHead, endStream: boolean): void {
    this.head = head;
    this.note(
      `request ${head.method} ${head.form} ${head.scheme} ${head.authority} ${head.path} ${head.version}` +
        `${fieldLines(head.headers)}${endStream ? " |" : ""}`,
    );
  }

  onRequestEnd(trailers: HeaderList | undefined): void {
    this.note(`request-end${trailers === undefined ? "" : fieldLines(trailers)}`);
  }

  receive(text: string, now = 0): this {
    this.machine.receive(latin1(text), now);
    return this;
  }

  written(): string {
    return this.sink.take().toString("latin1");
  }
}

export class ClientRecorder extends Recorder implements Http1ClientHandler {
  readonly sink = new TestSink();
  readonly machine: Http1Client;
  head: ResponseHead | undefined = undefined;

  constructor(limits?: Http1Limits) {
    super();
    this.machine = new Http1Client(this, this.sink, limits);
  }

  onInterim(head: ResponseHead): void {
    this.note(`interim ${head.status}${fieldLines(head.headers)}`);
  }

  onResponse(head: ResponseHead, endStream: boolean): void {
    this.head = head;
    this.note(`response ${head.status} ${head.version}${fieldLines(head.headers)}${endStream ? " |" : ""}`);
  }

  onResponseEnd(trailers: HeaderList | undefined): void {
    this.note(`response-end${trailers === undefined ? "" : fieldLines(trailers)}`);
  }

  receive(text: string): this {
    this.machine.receive(latin1(text), 0);
    return this;
  }

  written(): string {
    return this.sink.take().toString("latin1");
  }
}

/**
 * A proxy in one object: every request that the server machine reports goes out through a client machine on a connection
 * of its own, and an origin answers 200 as soon as the request is complete.
 */
export class Relay implements Http1ServerHandler {
  /** The bytes of each connection to the origin. */
  readonly upstream: Buffer[] = [];
  /** How many requests were forwarded and answered to their end. */
  answered = 0;
  error: ProtocolError | undefined = undefined;
  readonly #down = new TestSink();
  readonly #server = new Http1Server(this, this.#down);
  #up: { client: ClientRecorder; bytes: Buffer[] } | undefined = undefined;

  constructor() {
    this.#server.advance(0);
  }

  receive(bytes: Buffer): void {
    this.#server.receive(bytes, 0);
  }

  /** What the client got. */
  downstream(): Buffer {
    return this.#down.take();
  }

  onRequest(head: RequestHead, endStream: boolean): void {
    if (!isUpgradeRequest(head) && stripHopByHop(head.headers) !== undefined) throw new Error("framing field named");
    const client = new ClientRecorder();
    this.#up = { client, bytes: [] };
    client.machine.sendHead(head, endStream);
    this.#flush();
    if (endStream) this.#answer();
  }

  onData(view: Buffer): void {
    this.#up?.client.machine.sendData(view);
    this.#flush();
  }

  onRequestEnd(trailers: HeaderList | undefined): void {
    this.#up?.client.machine.sendEnd(trailers);
    this.#flush();
    this.#answer();
  }

  onError(error: ProtocolError): void {
    this.error = error;
    // Whatever was forwarded of the request stays without an end.
    this.#close();
  }

  onEnd(): void {}

  #answer(): void {
    this.#close();
    this.answered++;
    this.#server.sendHead(responseHead(200, headers(["Content-Length", "0"])), true);
    this.#server.advance(0);
  }

  #flush(): void {
    const up = this.#up;
    if (up === undefined) return;
    if (up.client.error !== undefined) throw up.client.error;
    up.bytes.push(up.client.sink.take());
  }

  #close(): void {
    if (this.#up !== undefined) this.upstream.push(Buffer.concat(this.#up.bytes));
    this.#up = undefined;
  }
}
