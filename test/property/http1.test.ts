import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HeaderList } from "../../src/proxy/core/header.ts";
import { ClientRecorder, headers, latin1, lend, requestHead, responseHead, ServerRecorder } from "../support/http1.ts";
import { readStrictly } from "../support/strict-http1.ts";
import { readResponse } from "../support/strict-response.ts";

const RUNS = { numRuns: 300 };

const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}$/);
// What a value may be once blanks around it are gone.
const value = fc.stringMatching(/^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]{0,30}[!-~\x80-\xff])?)?$/);
const path = fc.stringMatching(/^\/[!"$-~]{0,30}$/);
const method = fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "M-SEARCH");
const SETTLED =
  /^(?:host|content-length|transfer-encoding|connection|keep-alive|proxy-connection|upgrade|te|trailer)$/i;
const fields = fc.array(
  fc.tuple(
    token.filter((name) => !SETTLED.test(name)),
    value,
  ),
  { maxLength: 12 },
);
const content = fc
  .array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 })
  .map((all) => all.map((one) => Buffer.from(one)));

interface Message {
  method: string;
  path: string;
  fields: [string, string][];
  content: Buffer[];
  framing: "none" | "length" | "chunked";
}

const message: fc.Arbitrary<Message> = fc.record({
  method,
  path,
  fields,
  content,
  framing: fc.constantFrom("none", "length", "chunked"),
});

function list(one: Message, first: [string, string][]): HeaderList {
  const length = one.content.reduce((sum, part) => sum + part.length, 0);
  const framing: [string, string][] = one.framing === "length" ? [["Content-Length", String(length)]] : [];
  return headers(...first, ...one.fields, ...framing);
}

/** What a client machine writes for some requests, one after the other. */
function written(messages: readonly Message[]): Buffer {
  return Buffer.concat(
    messages.map((one) => {
      const client = new ClientRecorder();
      const head = requestHead({ method: one.method, path: one.path, headers: list(one, [["Host", "a"]]) });
      client.machine.sendHead(head, one.framing === "none");
      if (one.framing !== "none") {
        for (const part of one.content) client.machine.sendData(part);
        client.machine.sendEnd(undefined);
      }
      expect(client.error).toBeUndefined();
      return client.sink.take();
    }),
  );
}

/** Cuts bytes at offsets given as fractions. */
function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const offsets = [...new Set(at.map((fraction) => Math.floor(fraction * bytes.length)))].sort((a, b) => a - b);
  return [0, ...offsets]
    .map((from, i) => bytes.subarray(from, offsets[i] ?? bytes.length))
    .filter((one) => one.length > 0);
}

const cuts = fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { maxLength: 12 });

/** Everything a server reports for these pieces, every request answered at once, and then the client's half-close. */
function serve(pieces: readonly Buffer[], isLent = false): string[] {
  const server = new ServerRecorder();
  server.machine.advance(0);
  server.react = (event) => {
    const isEnd = event === "request-end" || (event === "request" && (server.events.at(-1) as string).endsWith(" |"));
    if (!isEnd) return;
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
  };
  for (const piece of pieces) isLent ? lend(server.machine, piece) : server.machine.receive(piece, 0);
  server.machine.receive(Buffer.alloc(0), 0);
  if (server.error !== undefined) expect(server.error.side).toBe("remote");
  return server.take();
}

/** Everything a client reports for these pieces as response to a GET. */
function respond(pieces: readonly Buffer[], isLent = false): string[] {
  const client = new ClientRecorder();
  client.machine.sendHead(requestHead(), true);
  for (const piece of pieces) isLent ? lend(client.machine, piece) : client.machine.receive(piece, 0);
  client.machine.receive(Buffer.alloc(0), 0);
  if (client.error !== undefined) expect(client.error.side).toBe("remote");
  return client.take();
}

describe("requests", () => {
  test("what one side writes the other reads, in any pieces", () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), cuts, (messages, at) => {
        const bytes = written(messages);
        const events = serve([bytes]);
        expect(serve(cut(bytes, at))).toEqual(events);
        expect(serve(cut(bytes, at), true)).toEqual(events);
        const wanted = messages.flatMap((one) => {
          const text = Buffer.concat(one.content).toString("latin1");
          const shown = one.fields.map(([name, text]) => ` ${name.toLowerCase()}=${text}`).join("");
          const length = one.framing === "length" ? ` content-length=${text.length}` : "";
          const coding = one.framing === "chunked" ? " transfer-encoding=chunked" : "";
          const isWhole = one.framing === "none" || (one.framing === "length" && text === "");
          const start = `request ${one.method} origin http a ${one.path} 1.1 host=a${shown}${length}${coding}`;
          if (isWhole) return [`${start} |`];
          return [start, ...(text === "" ? [] : [`data ${text}`]), "request-end"];
        });
        expect(events).toEqual([...wanted, "end"]);
      }),
      RUNS,
    );
  });

  test("are written by the grammar: no empty line around them, no white space before a field, no fold, one length", () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), (messages) => {
        const { requests, cut: isCut } = readStrictly(written(messages));
        expect(isCut).toBe(false);
        expect(requests.map(({ method: verb, content: text }) => `${verb} ${text}`)).toEqual(
          messages.map(
            (one) => `${one.method} ${one.framing === "none" ? "" : Buffer.concat(one.content).toString("latin1")}`,
          ),
        );
      }),
      RUNS,
    );
  });

  test("any bytes, in any pieces, are reported alike and never thrown about", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
      fc.stringMatching(/^[GETPOS \r\n:/HTTP1.0aoshcnkedl\-0-9;,\t]{0,200}$/).map(latin1),
      fc
        .tuple(message, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 }))
        .map(([one, changes]) => {
          const whole = written([one]);
          for (const [at, byte] of changes) whole[at % whole.length] = byte;
          return whole;
        }),
    );
    fc.assert(
      fc.property(bytes, cuts, (whole, at) => {
        expect(serve(cut(whole, at))).toEqual(serve([whole]));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("responses", () => {
  test("what one side writes the other reads, in any pieces", () => {
    fc.assert(
      fc.property(message, fc.constantFrom(200, 201, 404, 503), cuts, (one, status, at) => {
        const server = new ServerRecorder();
        server.receive("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        server.machine.sendHead(responseHead(status, list(one, [])), one.framing === "none");
        if (one.framing !== "none") {
          for (const part of one.content) server.machine.sendData(part);
          server.machine.sendEnd(undefined);
        }
        // With a length and content that is missing, the server says so itself.
        expect(server.error).toBeUndefined();
        const bytes = server.sink.take();
        const strict = readResponse(bytes.toString("latin1"));
        expect([strict?.status, strict?.end, strict?.bytes]).toEqual([status, "framed", bytes.length]);
        const events = respond([bytes]);
        expect(respond(cut(bytes, at))).toEqual(events);
        expect(respond(cut(bytes, at), true)).toEqual(events);
        expect(events.at(-1)).toBe("end");
        const text = one.framing === "none" ? "" : Buffer.concat(one.content).toString("latin1");
        expect(events.filter((event) => event.startsWith("data")).join("")).toBe(text === "" ? "" : `data ${text}`);
      }),
      RUNS,
    );
  });

  test("any bytes, in any pieces, end alike and are never thrown about", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
      fc
        .stringMatching(/^HTTP\/1\.1 [0-9]{3} [ -~]{0,9}\r\n[A-Za-z:,\r\n 0-9-]{0,100}\r\n\r\n[0-9a-f\r\n]{0,40}$/)
        .map(latin1),
    );
    fc.assert(
      fc.property(bytes, cuts, (whole, at) => {
        // After a complete response, stray bytes are an error only if they come on their own.
        const trim = (events: string[]) => {
          const end = events.findIndex((event) => event.startsWith("response-end") || /^response .*\|$/.test(event));
          return end < 0 ? events : events.slice(0, end + 1);
        };
        expect(trim(respond(cut(whole, at)))).toEqual(trim(respond([whole])));
        expect(trim(respond(cut(whole, at), true))).toEqual(trim(respond([whole])));
      }),
      { numRuns: 1000 },
    );
  });
});
