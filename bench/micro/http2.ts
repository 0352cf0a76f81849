/**
 * What one head and one frame cost: `node --expose-gc bench/micro/http2.ts`. Prints the median of several rounds, and the
 * bytes that the heap grew by per operation.
 */
import { HeaderList, headerName } from "../../src/proxy/core/header.ts";
import type { RequestHead, ResponseHead } from "../../src/proxy/core/http.ts";
import { encodeRstStream } from "../../src/proxy/wire/http2/frame/index.ts";
import { HeaderBlock, HpackDecoder, HpackEncoder } from "../../src/proxy/wire/http2/hpack/index.ts";
import { Http2Client, Http2Server, type Http2Stream, PREFACE } from "../../src/proxy/wire/http2/index.ts";
import { HeaderWriter } from "../../src/proxy/wire/http2/writer.ts";
import { BenchSink, measure } from "./measure.ts";

function list(fields: readonly (readonly [string, string])[]): HeaderList {
  const headers = new HeaderList();
  for (const [name, value] of fields) {
    const known = headerName(name);
    if (known !== undefined) headers.add(known, value);
  }
  return headers;
}

const REQUEST: RequestHead = {
  method: "POST",
  scheme: "http",
  authority: "web.shop.svc.cluster.local:8080",
  path: "/shop.Cart/AddItem",
  form: "origin",
  version: "2",
  headers: list([
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ["user-agent", "grpc-node-js/1.14.7"],
    ["grpc-accept-encoding", "identity,deflate,gzip"],
    ["l5d-dst-canonical", "web.shop.svc.cluster.local:8080"],
    ["accept", "*/*"],
  ]),
  protocol: undefined,
};
const RESPONSE: ResponseHead = {
  status: 200,
  version: "2",
  headers: list([
    ["content-type", "application/json; charset=utf-8"],
    ["date", "Mon, 23 Nov 2026 21:00:00 GMT"],
    ["server", "Kestrel"],
    ["cache-control", "no-store"],
    ["x-frame-options", "DENY"],
    ["x-content-type-options", "nosniff"],
    ["vary", "accept-encoding"],
  ]),
  reason: undefined,
};

function headBenchmarks(): void {
  const sink = new BenchSink();
  const writer = new HeaderWriter(sink, new HpackEncoder(), 16_384);
  const encode = (name: string, run: () => void) =>
    measure(name, 1, () => {
      sink.end = 0;
      run();
    });
  encode("encode request head, 10 fields that repeat", () => writer.writeRequest(1, REQUEST, true));
  encode("encode response head, 8 fields that repeat", () => writer.writeResponse(1, RESPONSE, true));
  let turn = 0;
  const changing = Array.from({ length: 1024 }, (_, i) => ({ ...REQUEST, path: `/items/${i}?session=${i * 7919}` }));
  encode("encode request head, :path changes", () =>
    writer.writeRequest(1, changing[turn++ & 1023] as RequestHead, true),
  );

  const blocks = (heads: readonly RequestHead[], encoder: HpackEncoder): Buffer[] => {
    const scratch = new BenchSink();
    const w = new HeaderWriter(scratch, encoder, 16_384);
    return heads.map((head) => {
      scratch.end = 0;
      w.writeRequest(1, head, true);
      return Buffer.from(scratch.buffer.subarray(9, scratch.end));
    });
  };
  const block = new HeaderBlock(16_384);
  const decoder = new HpackDecoder(4096);
  const [first, second, repeated] = blocks([REQUEST, REQUEST, REQUEST], new HpackEncoder()) as [Buffer, Buffer, Buffer];
  decoder.decode(first, 0, first.length, block);
  decoder.decode(second, 0, second.length, block);
  measure(`decode request head, 10 fields that repeat (${repeated.length} B)`, 1, () => {
    decoder.decode(repeated, 0, repeated.length, block);
  });
  const other = new HpackDecoder(4096);
  const [begin, ...rest] = blocks([REQUEST, ...changing.slice(0, 512)], new HpackEncoder()) as [Buffer, ...Buffer[]];
  other.decode(begin, 0, begin.length, block);
  for (const bytes of rest) other.decode(bytes, 0, bytes.length, block);
  measure("decode request head, :path changes", 1, () => {
    const bytes = rest[256 + (turn++ & 255)] as Buffer;
    other.decode(bytes, 0, bytes.length, block);
  });
}

/** Requests and responses between two machines: both sides of both messages, frames and streams included. */
function exchangeBenchmarks(content: number): void {
  const toServer = new BenchSink();
  const toClient = new BenchSink();
  const body = Buffer.alloc(content, "x");
  const ignore = () => {};
  const unexpected = (_stream: Http2Stream, code: number) => {
    throw new Error(`reset with ${code}`);
  };
  const server: Http2Server = new Http2Server(
    {
      onRequest: (stream, _head, endStream) => {
        if (endStream) answer(stream);
      },
      onData: (stream, view, endStream) => {
        server.credit(stream, view.length);
        if (endStream) answer(stream);
      },
      onTrailers: ignore,
      onReset: unexpected,
      onWritable: ignore,
      onGoaway: ignore,
      onConnectionError: (error) => {
        throw error;
      },
      onEnd: ignore,
    },
    toClient,
    { maxConcurrentStreams: 1000 },
  );
  const answer = (stream: Http2Stream) => {
    server.sendHead(stream, RESPONSE, content === 0);
    if (content > 0) server.sendData(stream, body, true);
  };
  const client: Http2Client = new Http2Client(
    {
      onInterim: ignore,
      onResponse: ignore,
      onData: (stream, view) => client.credit(stream, view.length),
      onTrailers: ignore,
      onReset: unexpected,
      onWritable: ignore,
      onGoaway: ignore,
      onConnectionError: (error) => {
        throw error;
      },
      onEnd: ignore,
      onCapacity: ignore,
    },
    toServer,
  );
  const carry = () => {
    // An empty chunk would be the end of the connection.
    if (toServer.end > 0) server.receive(toServer.buffer.subarray(0, toServer.end), 0);
    toServer.end = 0;
    if (toClient.end > 0) client.receive(toClient.buffer.subarray(0, toClient.end), 0);
    toClient.end = 0;
  };
  client.start(0);
  server.start(0);
  carry();
  carry();
  const head: RequestHead = content === 0 ? { ...REQUEST, method: "GET" } : REQUEST;
  // What fits into the windows: nothing waits.
  const batch = Math.max(1, Math.min(50, Math.floor(60_000 / Math.max(1, content))));
  measure(`request and response, both sides, ${content} B each way`, batch, () => {
    for (let i = 0; i < batch; i++) {
      const stream = client.openStream(undefined) as Http2Stream;
      client.sendRequest(stream, head, content === 0);
      if (content > 0) client.sendData(stream, body, true);
    }
    carry();
  });
}

/** Frames of one connection as a server reads them, a hundred a read; `stream` is open. */
function frameBenchmarks(): void {
  const sink = new BenchSink();
  measure("encode RST_STREAM", 100, () => {
    sink.end = 0;
    for (let i = 0; i < 100; i++) encodeRstStream(sink, i, 8);
  });
  const ignore = () => {};
  const server: Http2Server = new Http2Server(
    {
      onRequest: ignore,
      onData: (stream, view) => server.credit(stream, view.length),
      onTrailers: ignore,
      onReset: ignore,
      onWritable: ignore,
      onGoaway: ignore,
      onConnectionError: (error) => {
        throw error;
      },
      onEnd: ignore,
    },
    sink,
  );
  const head = new BenchSink();
  new HeaderWriter(head, new HpackEncoder(), 16_384).writeRequest(1, REQUEST, false);
  server.start(0);
  server.receive(Buffer.concat([PREFACE, frame(4, 0, 0), head.buffer.subarray(0, head.end)]), 0);
  // Each read in a period of its own: what a flood would be is not counted.
  let now = 0;
  const read = (name: string, one: Buffer) => {
    const bytes = Buffer.concat(Array.from({ length: 100 }, () => one));
    measure(`read ${name}`, 100, () => {
      sink.end = 0;
      now += 20_000;
      server.receive(bytes, now);
    });
  };
  read("DATA of 100 B, credited", frame(0, 1, 100));
  read("DATA of 600 B, credited", frame(0, 1, 600));
  read("PING, answered", frame(6, 0, 8));
  read("PRIORITY, ignored", frame(2, 1, 5));
}

/** A frame without flags and with a payload of zeros. */
function frame(type: number, streamId: number, bytes: number): Buffer {
  const all = Buffer.alloc(9 + bytes);
  all.writeUIntBE(bytes, 0, 3);
  all[3] = type;
  all.writeUInt32BE(streamId, 5);
  return all;
}

console.log(`Node ${process.version}, ${process.arch}; per head, frame or exchange`);
headBenchmarks();
frameBenchmarks();
exchangeBenchmarks(0);
exchangeBenchmarks(100);
exchangeBenchmarks(10_000);
