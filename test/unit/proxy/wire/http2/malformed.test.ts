import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { encodeHuffman } from "../../../../../src/proxy/wire/http2/hpack/huffman.ts";
import { encodeInteger } from "../../../../../src/proxy/wire/http2/hpack/integer.ts";
import { END_HEADERS, END_STREAM, type Fields, frame, openServer, rawFrame } from "../../../../support/http2.ts";

interface Vector {
  readonly id: string;
  readonly expected: string;
  readonly fields: Fields;
  readonly trailers: Fields | undefined;
  readonly trailersEnd: boolean;
  readonly body: string;
}

const BASE: Fields = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "a"],
];
const GRPC: Fields = [
  ["content-type", "application/grpc"],
  ["te", "trailers"],
];

function parse(line: string): Vector | undefined {
  const cells = /^\| (D\d+) \| ([RNF]) \| (.*) \|$/.exec(line);
  if (cells === null) return undefined;
  const [, id, expected, change] = cells as unknown as [string, string, string, string];
  const fields: [string, string][] = BASE.map(([name, value]) => [name, value]);
  let trailers: [string, string][] | undefined;
  let trailersEnd = true;
  let body = "";
  const tokens = change.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  const text = () => JSON.parse(tokens.shift() as string) as string;
  while (tokens.length > 0) {
    const verb = tokens.shift() as string;
    const isFirst = tokens[0] === "^";
    if (isFirst) tokens.shift();
    const name = text();
    const at = fields.findIndex(([each]) => each === name);
    if (verb === "body") body = name;
    else if (verb === "-") fields.splice(at, 1);
    else if (verb === "=") fields[at] = [name, text()];
    else if (verb === "+") fields.splice(isFirst ? 0 : fields.length, 0, [name, text()]);
    else {
      trailers = [[name, text()]];
      trailersEnd = verb === "trailer";
    }
  }
  return { id, expected, fields, trailers, trailersEnd, body };
}

const vectors = readFileSync(new URL("../../../../vectors/http2-malformed.md", import.meta.url), "utf8")
  .split("\n")
  .map(parse)
  .filter((vector) => vector !== undefined);

type Encode = (fields: Fields) => Buffer[];

function block(fields: Fields, high: number, huffman: boolean): Buffer {
  const out = Buffer.alloc(65_536);
  let at = 0;
  for (const field of fields) {
    at = encodeInteger(out, at, high, 0x0f, 0);
    for (const text of field) {
      const scratch = Buffer.alloc(text.length * 4 + 8);
      const length = huffman ? encodeHuffman(text, scratch, 0) : scratch.write(text, "latin1");
      at = encodeInteger(out, at, huffman ? 0x80 : 0, 0x7f, length);
      at += scratch.copy(out, at, 0, length);
    }
  }
  return out.subarray(0, at);
}

/** Every way to write the same list. */
const encodings: [string, Encode][] = [
  ["plain", (fields) => [block(fields, 0x00, false)]],
  ["never indexed", (fields) => [block(fields, 0x10, false)]],
  ["Huffman", (fields) => [block(fields, 0x00, true)]],
  [
    "over CONTINUATION",
    (fields) => {
      const whole = block(fields, 0x00, false);
      const third = Math.ceil(whole.length / 3);
      return [whole.subarray(0, third), whole.subarray(third, 2 * third), whole.subarray(2 * third)];
    },
  ],
];

function headers(streamId: number, parts: Buffer[], endStream: boolean): Buffer[] {
  return parts.map((part, i) => {
    const flags = (i === parts.length - 1 ? END_HEADERS : 0) | (i === 0 && endStream ? END_STREAM : 0);
    return rawFrame(i === 0 ? 1 : 9, flags, streamId, part);
  });
}

/** What a request gave: whether all of it was reported, in the end. */
function run(vector: Vector, fields: Fields, encode: Encode, side = openServer(), streamId = 1): boolean {
  const { body, trailers } = vector;
  const bytes = headers(streamId, encode(fields), body === "" && trailers === undefined);
  if (body !== "" || trailers !== undefined)
    bytes.push(frame.data(streamId, body, trailers === undefined ? END_STREAM : 0));
  if (trailers !== undefined) bytes.push(...headers(streamId, encode(trailers), vector.trailersEnd));
  side.receive(...bytes);
  const { events } = side.recorder;
  const refused = side.frames().some((line) => line.startsWith(`RST_STREAM ${streamId} `) || line.startsWith("GOAWAY"));
  const complete = events.some((event) => /^(request .* end$|data-end|trailers)/.test(event));
  expect(refused).toBe(!complete);
  if (refused) {
    // Nothing beyond a head that was fine by itself, and no octet beyond content-length, was reported.
    expect(side.recorder.content(streamId).toString("latin1")).not.toContain("smuggled");
    expect(events.some((event) => event.includes("\r") || event.includes("\n"))).toBe(false);
  }
  return complete;
}

describe.each(vectors)("$id ($expected)", (vector) => {
  const check = (complete: boolean) => {
    if (vector.expected === "R") expect(complete).toBe(false);
    if (vector.expected === "F") expect(complete).toBe(true);
  };

  it.each(encodings)("%s", (_name, encode) => check(run(vector, vector.fields, encode)));

  it.each(encodings)("with gRPC's fields, %s", (_name, encode) => {
    const fields = vector.fields.filter(([name]) => name !== "te" || vector.id === "D28");
    const grpc = vector.id === "D28" ? GRPC.slice(0, 1) : GRPC;
    check(run(vector, [...fields, ...grpc], encode));
  });

  it("as a reference to entries that an earlier request made", () => {
    const side = openServer();
    const indexed = Buffer.concat(
      vector.fields.map((field) => {
        const literal = block([field], 0x00, false);
        literal[0] = 0x40;
        return literal;
      }),
    );
    side.receive(rawFrame(1, END_HEADERS, 1, indexed), frame.reset(1, 8));
    side.frames();
    side.recorder.take();
    // The first field is now the oldest entry.
    check(
      run(
        vector,
        vector.fields,
        (fields) => {
          if (fields !== vector.fields) return [block(fields, 0x00, false)];
          return [Buffer.from(fields.map((_, i) => 0x80 | (61 + fields.length - i)))];
        },
        side,
        3,
      ),
    );
  });

  it("split at every offset", () => {
    const bytes = Buffer.concat(
      headers(1, [block(vector.fields, 0, false)], vector.body === "" && vector.trailers === undefined),
    );
    if (vector.body !== "" || vector.trailers !== undefined) return;
    for (let at = 1; at < bytes.length; at++) {
      const side = openServer().receive(bytes.subarray(0, at)).receive(bytes.subarray(at));
      check(side.recorder.events.length > 0);
    }
  });
});

it("all vectors were read", () => expect(vectors.length).toBe(54));
