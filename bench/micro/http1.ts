/**
 * What HTTP/1 heads, content and whole exchanges cost: `node --expose-gc bench/micro/http1.ts`. Prints the median of
 * several rounds, and the bytes that the heap grew by per operation.
 */
import { HeaderList, headerName } from "../../src/proxy/core/header.ts";
import type { RequestHead, ResponseHead } from "../../src/proxy/core/http.ts";
import type { Lent, Machine } from "../../src/proxy/core/machine.ts";
import { detectHttp, Http1Client, Http1Server, stripHopByHop } from "../../src/proxy/wire/http1/index.ts";
import { BenchSink, measure } from "./measure.ts";

function list(...fields: readonly (readonly [string, string])[]): HeaderList {
  const headers = new HeaderList();
  for (const [text, value] of fields) {
    const name = headerName(text);
    if (name !== undefined) headers.add(name, value);
  }
  return headers;
}

const requestFields = [
  ["Host", "shop.example.svc.cluster.local:8080"],
  ["User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"],
  ["Accept", "application/json, text/plain"],
  ["Accept-Encoding", "gzip, deflate, br"],
  ["Accept-Language", "en-US,en;q=0.5"],
  ["X-Request-Id", "7f1f2a3c-9d47-4a8e-8d4a-1d0f2c3b4a5e"],
  ["Cookie", "session=0123456789abcdef0123456789abcdef"],
  ["Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
] as const;
const responseFields = [
  ["Content-Type", "application/json; charset=utf-8"],
  ["Content-Length", "27"],
  ["Date", "Mon, 23 Nov 2026 22:00:00 GMT"],
  ["Server", "shop/1.0"],
  ["Cache-Control", "no-store"],
  ["X-Request-Id", "7f1f2a3c-9d47-4a8e-8d4a-1d0f2c3b4a5e"],
] as const;

const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");

function lines(start: string, fields: readonly (readonly [string, string])[]): string {
  return `${start}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

// As from sockets: lent, and copied if the machine does not take it so.
const bytes = Buffer.allocUnsafeSlow(64 * 1024);
const lent: Lent = {
  bytes,
  view: new DataView(bytes.buffer),
  own: (from, to) => Buffer.from(bytes.subarray(from, to)),
};

function give(machine: Machine, text: Buffer): void {
  bytes.set(text);
  if (machine.receiveLent?.(lent, text.length, 0) !== true) machine.receive(lent.own(0, text.length), 0);
}

const request: RequestHead = {
  method: "GET",
  scheme: "http",
  authority: "shop.example.svc.cluster.local:8080",
  path: "/api/v1/things/42?x=y",
  form: "origin",
  version: "1.1",
  headers: list(...requestFields),
  protocol: undefined,
};
const response: ResponseHead = { status: 200, version: "1.1", headers: list(...responseFields), reason: undefined };
const noContent: ResponseHead = { status: 204, version: "1.1", headers: new HeaderList(), reason: undefined };
const chunkedResponse: ResponseHead = { status: 200, version: "1.1", headers: list(["X", "y"]), reason: undefined };

const requestText = lines("GET /api/v1/things/42?x=y HTTP/1.1", requestFields);
const responseText = lines("HTTP/1.1 200 OK", responseFields);
const body = '{"thing":42,"name":"spade"}';

const content = Buffer.from(body, "latin1");

const down = new BenchSink();
const up = new BenchSink();
let last: RequestHead | ResponseHead | undefined;

const server = new Http1Server(
  {
    onRequest(head) {
      last = head;
    },
    onData() {},
    onRequestEnd() {},
    onError(error) {
      throw error;
    },
    onEnd() {},
  },
  down,
);
const client = new Http1Client(
  {
    onInterim() {},
    onResponse(head) {
      last = head;
    },
    onData() {},
    onResponseEnd() {},
    onError(error) {
      throw error;
    },
    onEnd() {},
  },
  up,
);

console.log(`request head ${requestText.length} B, response head ${responseText.length} B, Node ${process.version}`);

const nextRequest = latin1(requestText);
measure("server: read a request of 8 fields, answer 204", 1, () => {
  give(server, nextRequest);
  server.sendHead(noContent, true);
  server.advance(0);
  down.end = 0;
});

const tinyRequest = latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
measure("server: read a request of 1 field, answer 204", 1, () => {
  give(server, tinyRequest);
  server.sendHead(noContent, true);
  server.advance(0);
  down.end = 0;
});

measure("server: the same, answer with a head of 6 fields and 27 B", 1, () => {
  give(server, tinyRequest);
  server.sendHead(response, false);
  server.sendData(content);
  server.sendEnd(undefined);
  server.advance(0);
  down.end = 0;
});

measure("server: the same, answer with one chunk of 27 B", 1, () => {
  give(server, tinyRequest);
  server.sendHead(chunkedResponse, false);
  server.sendData(content);
  server.sendEnd(undefined);
  server.advance(0);
  down.end = 0;
});

const nextResponse = latin1(responseText + body);
const tinyResponse = latin1("HTTP/1.1 204 No Content\r\n\r\n");
const tiny: RequestHead = { ...request, path: "/", headers: list(["Host", "a"]) };
measure("client: write a request of 1 field, read 204", 1, () => {
  client.sendHead(tiny, true);
  give(client, tinyResponse);
  up.end = 0;
});
measure("client: write a request of 8 fields, read 204", 1, () => {
  client.sendHead(request, true);
  give(client, tinyResponse);
  up.end = 0;
});
measure("client: write a request of 1 field, read 6 fields and 27 B", 1, () => {
  client.sendHead(tiny, true);
  give(client, nextResponse);
  up.end = 0;
});

const wholeRequest = latin1(requestText);
const wholeResponse = latin1(responseText + body);
measure("whole exchange: both heads read, stripped and written", 1, () => {
  give(server, wholeRequest);
  const head = last as RequestHead;
  stripHopByHop(head.headers);
  client.sendHead(head, true);
  give(client, wholeResponse);
  const answer = last as ResponseHead;
  stripHopByHop(answer.headers);
  server.sendHead(answer, false);
  server.sendData(content);
  server.sendEnd(undefined);
  server.advance(0);
  up.end = 0;
  down.end = 0;
});

const chunked = latin1(
  `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${"400\r\n"}${"a".repeat(1024)}\r\n0\r\n\r\n`,
);
measure("client: write a request of 1 field, read a chunk of 1 KiB", 1, () => {
  client.sendHead(tiny, true);
  give(client, chunked);
  up.end = 0;
});

const splitRequest = latin1(requestText);
measure("server: a request of 8 fields in two reads, answer 204", 1, () => {
  give(server, splitRequest.subarray(0, 200));
  give(server, splitRequest.subarray(200));
  server.sendHead(noContent, true);
  server.advance(0);
  down.end = 0;
});

const first = Buffer.from(requestText, "latin1");
measure("detect HTTP/1", 1, () => {
  if (detectHttp(first) !== "http1") throw new Error("not detected");
});
