import type { ProtocolError } from "../../src/proxy/core/errors.ts";
import { HeaderList, headerName } from "../../src/proxy/core/header.ts";
import type { RequestHead, ResponseHead } from "../../src/proxy/core/http.ts";
import {
  Http2Client,
  type Http2ClientHandler,
  type Http2Options,
  Http2Server,
  type Http2ServerHandler,
  type Http2Stream,
  PREFACE,
} from "../../src/proxy/wire/http2/index.ts";
import { TestSink } from "./sink.ts";

export type Fields = readonly (readonly [name: string, value: string])[];

export function headerList(fields: Fields): HeaderList {
  const list = new HeaderList();
  for (const [text, value] of fields) {
    const name = headerName(text);
    if (name === undefined) throw new Error(`not a field name: ${text}`);
    list.add(name, value);
  }
  return list;
}

export function fieldsOf(list: HeaderList): [string, string][] {
  return list.names.map((name, i) => [name.lower, list.values[i] as string]);
}

export function request(
  method: string,
  path: string,
  fields: Fields = [],
  more: Partial<RequestHead> = {},
): RequestHead {
  return {
    method,
    scheme: "http",
    authority: "a",
    path,
    form: "origin",
    version: "2",
    headers: headerList(fields),
    protocol: undefined,
    ...more,
  };
}

export function response(status: number, fields: Fields = []): ResponseHead {
  return { status, version: "2", headers: headerList(fields), reason: undefined };
}

/** Writes down what a machine reports, one line per event; content is merged over pieces. */
export class Recorder implements Http2ServerHandler, Http2ClientHandler {
  readonly events: string[] = [];
  readonly streams = new Map<number, Http2Stream>();
  error: ProtocolError | undefined;
  /** Called after each event has been written down. */
  react: ((event: string, stream: Http2Stream | undefined) => void) | undefined;
  /** Whether received content is credited at once. */
  credits = true;
  machine: Http2Server | Http2Client | undefined;
  #data = new Map<number, Buffer[]>();

  onRequest(stream: Http2Stream, head: RequestHead, endStream: boolean): void {
    this.streams.set(stream.id, stream);
    const target = `${head.method} ${head.scheme}://${head.authority ?? "-"}${head.path}`;
    this.#note(`request ${stream.id} ${target} ${JSON.stringify(fieldsOf(head.headers))}${end(endStream)}`, stream);
  }
  onInterim(stream: Http2Stream, head: ResponseHead): void {
    this.#note(`interim ${stream.id} ${head.status} ${JSON.stringify(fieldsOf(head.headers))}`, stream);
  }
  onResponse(stream: Http2Stream, head: ResponseHead, endStream: boolean): void {
    this.#note(
      `response ${stream.id} ${head.status} ${JSON.stringify(fieldsOf(head.headers))}${end(endStream)}`,
      stream,
    );
  }
  onData(stream: Http2Stream, view: Buffer, endStream: boolean): void {
    const pieces = this.#data.get(stream.id) ?? [];
    pieces.push(view);
    this.#data.set(stream.id, pieces);
    if (this.credits) this.machine?.credit(stream, view.length);
    if (endStream) this.#note(`data-end ${stream.id} ${this.content(stream.id).length}`, stream);
  }
  onTrailers(stream: Http2Stream, trailers: HeaderList): void {
    this.#note(`trailers ${stream.id} ${JSON.stringify(fieldsOf(trailers))}`, stream);
  }
  onReset(stream: Http2Stream, code: number, remote: boolean): void {
    this.#note(`reset ${stream.id} ${code} ${remote ? "remote" : "local"}`, stream);
  }
  onWritable(stream: Http2Stream): void {
    this.#note(`writable ${stream.id}`, stream);
  }
  onGoaway(lastStreamId: number, code: number): void {
    this.#note(`goaway ${lastStreamId} ${code}`, undefined);
  }
  onConnectionError(error: ProtocolError): void {
    this.error = error;
    this.#note(`connection-error ${error.code}`, undefined);
  }
  onEnd(): void {
    this.#note("end", undefined);
  }
  onCapacity(): void {
    this.#note("capacity", undefined);
  }

  /** All content received on a stream. */
  content(streamId: number): Buffer {
    return Buffer.concat(this.#data.get(streamId) ?? []);
  }

  /** In how many pieces it came. */
  pieces(streamId: number): number {
    return this.#data.get(streamId)?.length ?? 0;
  }

  /** The events since the last call. */
  take(): string[] {
    return this.events.splice(0);
  }

  #note(event: string, stream: Http2Stream | undefined): void {
    this.events.push(event);
    this.react?.(event, stream);
  }
}

function end(endStream: boolean): string {
  return endStream ? " end" : "";
}

/** One machine with its sink, its recorder and a clock that is moved by hand. */
export class Side<M extends Http2Server | Http2Client> {
  readonly sink = new TestSink();
  readonly recorder = new Recorder();
  readonly machine: M;
  now = 0;

  constructor(make: (recorder: Recorder, sink: TestSink) => M) {
    this.machine = make(this.recorder, this.sink);
    this.recorder.machine = this.machine;
    this.machine.start(this.now);
  }

  receive(...parts: Buffer[]): this {
    const lent = Buffer.concat(parts);
    this.machine.receive(lent, this.now);
    lent.fill(0xdd);
    return this;
  }

  /** Moves the clock, calling expire whenever the machine asks for it. */
  pass(ms: number): this {
    const until = this.now + ms;
    for (let calls = 0; ; calls++) {
      if (calls > 1000) throw new Error("the machine asks for the time again and again");
      const at = this.machine.timeoutAt();
      if (at === undefined || at > until) break;
      this.now = Math.max(this.now, at);
      this.machine.expire(this.now);
    }
    this.now = until;
    return this;
  }

  /** Frames written since the last call, one readable line each. */
  frames(): string[] {
    return describeFrames(this.sink.take());
  }
}

export function serverSide(options?: Http2Options): Side<Http2Server> {
  return new Side((recorder, sink) => new Http2Server(recorder, sink, options));
}

export function clientSide(options?: Http2Options): Side<Http2Client> {
  return new Side((recorder, sink) => new Http2Client(recorder, sink, options));
}

/** A server that has exchanged SETTINGS with a client written by hand; what it said is taken. */
export function openServer(options?: Http2Options, ...settings: [number, number][]): Side<Http2Server> {
  const side = serverSide(options);
  side.receive(PREFACE, frame.settings(...settings), frame.settingsAck());
  side.sink.take();
  return side;
}

/** The same for a client. */
export function openClient(options?: Http2Options, ...settings: [number, number][]): Side<Http2Client> {
  const side = clientSide(options);
  side.receive(frame.settings(...settings), frame.settingsAck());
  side.sink.take();
  side.recorder.take();
  return side;
}

/** Carries bytes between two sides until both are silent. */
export function exchange(a: Side<Http2Client>, b: Side<Http2Server>): void {
  for (let turns = 0; turns < 100_000; turns++) {
    const toB = a.sink.take();
    const toA = b.sink.take();
    if (toA.length === 0 && toB.length === 0) return;
    if (toB.length > 0) b.receive(toB);
    if (toA.length > 0) a.receive(toA);
  }
  throw new Error("the two sides do not come to rest");
}

export function rawFrame(type: number, flags: number, streamId: number, payload: Buffer | number[] = []): Buffer {
  const body = Buffer.from(payload as Buffer);
  const header = Buffer.alloc(9);
  header.writeUIntBE(body.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** Fields as literals without indexing and without Huffman (RFC 7541 §6.2.2): what a hand-written peer sends. */
export function literalBlock(fields: Fields): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) parts.push(Buffer.from([0]), literalText(name), literalText(value));
  return Buffer.concat(parts);
}

function literalText(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length: number[] = [127];
  let rest = bytes.length - 127;
  while (rest >= 128) {
    length.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

export const GET: Fields = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "a"],
];
export const POST: Fields = [[":method", "POST"], ...GET.slice(1)];
export const OK: Fields = [[":status", "200"]];

export const END_STREAM = 1;
export const END_HEADERS = 4;

/** Frames as a peer writes them by hand. */
export const frame = {
  data: (streamId: number, payload: string | Buffer, flags = 0) => rawFrame(0, flags, streamId, Buffer.from(payload)),
  headers: (streamId: number, fields: Fields, flags = END_HEADERS | END_STREAM) =>
    rawFrame(1, flags, streamId, literalBlock(fields)),
  priority: (streamId: number, dependency: number) =>
    rawFrame(2, 0, streamId, Buffer.concat([uint32(dependency), Buffer.from([15])])),
  reset: (streamId: number, code: number) => rawFrame(3, 0, streamId, uint32(code)),
  settings: (...settings: [number, number][]) =>
    rawFrame(
      4,
      0,
      0,
      Buffer.concat(settings.map(([id, value]) => Buffer.concat([uint32(id).subarray(2), uint32(value)]))),
    ),
  settingsAck: () => rawFrame(4, 1, 0),
  ping: (payload = "12345678", flags = 0) => rawFrame(6, flags, 0, Buffer.from(payload, "latin1")),
  goaway: (lastStreamId: number, code: number) =>
    rawFrame(7, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(code)])),
  windowUpdate: (streamId: number, increment: number) => rawFrame(8, 0, streamId, uint32(increment)),
  continuation: (streamId: number, payload: Buffer, flags = END_HEADERS) => rawFrame(9, flags, streamId, payload),
};

const TYPES = [
  "DATA",
  "HEADERS",
  "PRIORITY",
  "RST_STREAM",
  "SETTINGS",
  "PUSH_PROMISE",
  "PING",
  "GOAWAY",
  "WINDOW_UPDATE",
];

/** One line per frame, a client's preface left out: type, stream, flags in hex, and what the payload says. */
export function describeFrames(bytes: Buffer): string[] {
  const lines: string[] = [];
  const start = bytes.indexOf(PREFACE) === 0 ? PREFACE.length : 0;
  for (let at = start; at < bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    const payload = bytes.subarray(at + 9, at + 9 + length);
    if (payload.length !== length) throw new Error("a frame is cut short");
    const detail =
      type === 3
        ? ` ${payload.readUInt32BE(0)}`
        : type === 7
          ? ` ${payload.readUInt32BE(0)} ${payload.readUInt32BE(4)}`
          : type === 8
            ? ` +${payload.readUInt32BE(0)}`
            : type === 0
              ? ` [${length}]`
              : "";
    const ending = (type === 0 || type === 1) && flags & 1 ? " end" : "";
    const acknowledged = (type === 4 || type === 6) && flags & 1 ? " ack" : "";
    lines.push(`${TYPES[type] ?? "CONTINUATION"} ${bytes.readUInt32BE(at + 5)}${detail}${ending}${acknowledged}`);
    at += 9 + length;
  }
  return lines;
}
