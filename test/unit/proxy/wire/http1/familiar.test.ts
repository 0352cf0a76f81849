import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { headerName } from "../../../../../src/proxy/core/header.ts";
import { DEFAULT_HTTP1_LIMITS } from "../../../../../src/proxy/wire/http1/limits.ts";
import { ClientRecorder, latin1, lend, requestHead, responseHead, ServerRecorder } from "../../../../support/http1.ts";
import { readVectors } from "../../../../support/vectors.ts";

/*
 * Heads are read line by line where they lie, as long as they are plain; the rest is read otherwise. Nobody can tell which.
 */

const NAMES = [
  "Host",
  "host",
  "X-A",
  "x-a",
  "Content-Length",
  "Cookie",
  "X_A",
  "Content_Length",
  "X-\u00e4",
  "X-Long",
  "",
];
const VALUES = [
  "a",
  "",
  "7",
  "0",
  "a\tb",
  "\u00e9",
  "x\0y",
  "x\ry",
  "\x7f",
  "abcdefgh-1",
  "abcdefgh-2",
  "v".repeat(63),
  "v".repeat(65),
];
const field = fc.tuple(
  fc.constantFrom(...NAMES),
  fc.constantFrom(": ", ":", ":  ", ":\t", " : "),
  fc.constantFrom(...VALUES),
  fc.constantFrom("\r\n", "\r\n", " \r\n", "\n", "\r\n "),
);
const fields = fc.array(field, { maxLength: 6 }).map((all) => all.map((parts) => parts.join("")).join(""));
const requestLine = fc.constantFrom(
  "GET / HTTP/1.1\r\n",
  "GET /a HTTP/1.1\r\n",
  "GET /b?c=d HTTP/1.1\r\n",
  "POST / HTTP/1.1\r\n",
  "POST /a HTTP/1.1\r\n",
  "GET /a HTTP/1.0\r\n",
  "GET /a#b HTTP/1.1\r\n",
  "GET http://a/ HTTP/1.1\r\n",
  "GET  / HTTP/1.1\r\n",
  "GET /\u00e9 HTTP/1.1\r\n",
  `GET /${"long/".repeat(30)} HTTP/1.1\r\n`,
  "PUT / HTTP/1.1\r\n",
  "POSTS / HTTP/1.1\r\n",
);
const statusLine = fc.constantFrom(
  "HTTP/1.1 200 OK\r\n",
  "HTTP/1.1 200 Okay\r\n",
  "HTTP/1.1 200 \r\n",
  "HTTP/1.1 200\r\n",
  "HTTP/1.1 204 No Content\r\n",
  "HTTP/1.1 100 Continue\r\n",
  "HTTP/1.1 101 Switching Protocols\r\n",
  "HTTP/1.1 503 x\0y\r\n",
  "HTTP/1.1 600 Much\r\n",
  "HTTP/1.0 200 OK\r\n",
  "HTTP/1.1  200 OK\r\n",
);
const end = fc.constantFrom("\r\n", "\r\n", "\r\n", "\r\nabcdefg", "\n", "\r", "");
const heads = (first: fc.Arbitrary<string>) =>
  fc.array(
    fc.tuple(first, fc.constantFrom("Host: a\r\n", "Host: b\r\n", ""), fields, end).map((parts) => parts.join("")),
    { minLength: 1, maxLength: 6 },
  );

/** Everything that a server makes of one read, spelling and all. */
function request(text: string, isLent: boolean): unknown {
  const server = new ServerRecorder();
  if (isLent) lend(server.machine, latin1(text));
  else server.receive(text);
  server.machine.receive(Buffer.alloc(0), 0);
  const { head } = server;
  return { events: server.take(), head, spelled: head?.headers.names.map((name) => name.spelled), error: server.error };
}

function response(text: string, isLent: boolean): unknown {
  const client = new ClientRecorder();
  client.machine.sendHead(requestHead(), true);
  if (isLent) lend(client.machine, latin1(text));
  else client.machine.receive(latin1(text), 0);
  const { reusable, responseBegan } = client.machine;
  client.machine.receive(Buffer.alloc(0), 0);
  const { head } = client;
  const spelled = head?.headers.names.map((name) => name.spelled);
  return { events: client.take(), head, spelled, error: client.error, reusable, responseBegan };
}

test("a request is read as if no line of it had ever come before", () => {
  fc.assert(
    fc.property(heads(requestLine), (all) => {
      for (const text of [...all, ...all, ...all]) expect(request(text, true)).toEqual(request(text, false));
    }),
    { numRuns: 300 },
  );
});

test("a response likewise", () => {
  fc.assert(
    fc.property(heads(statusLine), (all) => {
      for (const text of [...all, ...all, ...all]) expect(response(text, true)).toEqual(response(text, false));
    }),
    { numRuns: 300 },
  );
});

test.each([
  ["http1-requests.md", request],
  ["http1-responses.md", response],
])("the vectors of %s likewise", (name, read) => {
  for (const { bytes } of readVectors(name)) {
    const text = bytes.toString("latin1");
    for (let i = 0; i < 2; i++) expect(read(text, true)).toEqual(read(text, false));
  }
});

const isTaken = (text: string, limits = DEFAULT_HTTP1_LIMITS) => lend(new ServerRecorder(limits).machine, latin1(text));

describe("what is plain is read where it lies", () => {
  test.each([
    ["the first time", "GET /first HTTP/1.1\r\nHost: first\r\nX-First: first\r\n\r\n"],
    ["content behind it", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"],
    ["another request behind it", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["white space around a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A:\t 1 \r\nX-B:2\r\n\r\n"],
    ["long values", `GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${"v".repeat(5000)}\r\n\r\n`],
  ])("%s", (_, text) => {
    for (let i = 0; i < 3; i++) expect(isTaken(text)).toBe(true);
  });

  test("the rest is not", () => {
    const unusual = [
      "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
      "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\nX: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r",
      "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX: y\r",
      "GET / HTTP/1.1\r\nHost: a\r\nX: ",
      "GET / HTTP/1.1\r\nHost: a\r\nX",
      "GET / HTTP/1.1\r\n",
      "GET /",
    ];
    for (const text of unusual) expect([text, isTaken(text)]).toEqual([text, false]);
  });

  test("limits hold at the byte", () => {
    const text = `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(8)}\r\n`;
    expect(isTaken(text, { ...DEFAULT_HTTP1_LIMITS, maxFields: 9, maxHeadBytes: text.length })).toBe(true);
    expect(isTaken(text, { ...DEFAULT_HTTP1_LIMITS, maxFields: 8 })).toBe(false);
    expect(isTaken(text, { ...DEFAULT_HTTP1_LIMITS, maxHeadBytes: text.length - 1 })).toBe(false);
    expect(isTaken(text, { ...DEFAULT_HTTP1_LIMITS, maxTargetBytes: 4 })).toBe(false);
  });
});

test("not in the middle of something else", () => {
  const server = new ServerRecorder();
  server.receive("GET / HT");
  expect(lend(server.machine, latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))).toBe(false);
  const waiting = new ServerRecorder();
  expect(lend(waiting.machine, latin1("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"))).toBe(true);
  // The next one waits until this one is answered.
  expect(lend(waiting.machine, latin1("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"))).toBe(false);
  expect(waiting.take()).toEqual(["request GET origin http a /1 1.1 host=a |"]);
  waiting.machine.sendHead(responseHead(204), true);
  waiting.machine.advance(0);
  expect(waiting.take()).toEqual(["request GET origin http a /2 1.1 host=a |"]);
});

test("a client that asked for a tunnel, or for nothing, is left to the other reader", () => {
  const text = latin1("HTTP/1.1 200 OK\r\n\r\n");
  const idle = new ClientRecorder();
  expect(lend(idle.machine, text)).toBe(false);
  const tunnel = new ClientRecorder();
  tunnel.machine.sendHead(requestHead({ method: "CONNECT", form: "authority" }), true);
  expect(lend(tunnel.machine, text)).toBe(false);
  expect(tunnel.take()).toEqual(["response 200 1.1 |"]);
});

test("nothing is learnt from what another connection left in that memory", () => {
  const text = "GET / HTTP/1.1\r\nHost: a\r\nX-Cut: mine\r\n\r\n";
  for (let to = 1; to < text.length; to++) {
    expect([to, lend(new ServerRecorder().machine, latin1(text.slice(0, to)))]).toEqual([to, false]);
  }
  expect(headerName("X-Cut")?.recent).toMatch(/^(?:mine)?$/);
  expect(headerName("x-left")?.recent).toBe("");
});

test("one connection, new values every time", () => {
  const server = new ServerRecorder();
  for (let i = 0; i < 20; i++) {
    const values = [`a-${i}`, `${"b".repeat(i)}${i}`, `c${"d".repeat(100 - i)}`];
    const lines = values.map((value, k) => `X-New-${k}: ${value}\r\n`).join("");
    expect(lend(server.machine, latin1(`GET /${i} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`))).toBe(true);
    expect(server.head?.headers.values).toEqual(["a", ...values]);
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
  }
});

test("a value that comes again is one text, a credential is not", () => {
  const values = [1, 2, 3].map(() => {
    const server = new ServerRecorder();
    lend(server.machine, latin1("GET / HTTP/1.1\r\nHost: again\r\nCookie: secret=1\r\nAuthorization: Basic x\r\n\r\n"));
    return server.head?.headers;
  });
  for (const headers of values) {
    expect(headers?.values).toEqual(["again", "secret=1", "Basic x"]);
    expect(headers?.names[1]?.recent).toBe("");
    expect(headers?.names[2]?.recent).toBe("");
  }
});
