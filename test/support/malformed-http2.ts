import { readFileSync } from "node:fs";
import { encodeHuffman } from "../../src/proxy/wire/http2/hpack/huffman.ts";
import { encodeInteger } from "../../src/proxy/wire/http2/hpack/integer.ts";
import { END_HEADERS, END_STREAM, type Fields, frame, rawFrame } from "./http2.ts";

/** A row of vectors: a message of HTTP/2 with what is wrong with it. */
export interface MalformedMessage {
  readonly id: string;
  readonly expected: string;
  readonly fields: Fields;
  readonly trailers: Fields | undefined;
  readonly trailersEnd: boolean;
  readonly body: string;
}

/** The request that deviations are added to. */
export const BASE: Fields = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "a"],
];

function parse(line: string): MalformedMessage | undefined {
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

export const malformedRequests: readonly MalformedMessage[] = readFileSync(
  new URL("../vectors/http2-malformed.md", import.meta.url),
  "utf8",
)
  .split("\n")
  .map(parse)
  .filter((vector) => vector !== undefined);

export type Encode = (fields: Fields) => Buffer[];

/** Fields as literals, with the bits `high` of their first octet. */
export function literals(fields: Fields, high: number, huffman: boolean): Buffer {
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
export const encodings: [string, Encode][] = [
  ["plain", (fields) => [literals(fields, 0x00, false)]],
  ["never indexed", (fields) => [literals(fields, 0x10, false)]],
  ["Huffman", (fields) => [literals(fields, 0x00, true)]],
  [
    "over CONTINUATION",
    (fields) => {
      const whole = literals(fields, 0x00, false);
      const third = Math.ceil(whole.length / 3);
      return [whole.subarray(0, third), whole.subarray(third, 2 * third), whole.subarray(2 * third)];
    },
  ],
];

/** What makes a request one of gRPC. */
export const GRPC: Fields = [
  ["content-type", "application/grpc"],
  ["te", "trailers"],
];

/** The vector's fields as a request of gRPC; a TE of its own stays the only one. */
export function asGrpc(vector: MalformedMessage): Fields {
  return [...vector.fields, ...GRPC.filter(([name]) => !vector.fields.some(([other]) => other === name))];
}

/** Makes a table entry of each field (RFC 7541 §6.2.1). */
export function indexing(fields: Fields): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      const literal = literals([field], 0x00, false);
      literal[0] = 0x40;
      return literal;
    }),
  );
}

/** Refers to the entries that {@link indexing} the same fields just made: the first is the oldest. */
export function references(fields: Fields): Buffer {
  return Buffer.from(fields.map((_, i) => 0x80 | (61 + fields.length - i)));
}

/** A header block as HEADERS and CONTINUATION frames. */
export function headerFrames(streamId: number, parts: Buffer[], endStream: boolean): Buffer[] {
  return parts.map((part, i) => {
    const flags = (i === parts.length - 1 ? END_HEADERS : 0) | (i === 0 && endStream ? END_STREAM : 0);
    return rawFrame(i === 0 ? 1 : 9, flags, streamId, part);
  });
}

/** All frames of one request. */
export function requestFrames(vector: MalformedMessage, streamId: number, encode: Encode, fields: Fields): Buffer[] {
  const { body, trailers } = vector;
  const bytes = headerFrames(streamId, encode(fields), body === "" && trailers === undefined);
  if (body !== "" || trailers !== undefined)
    bytes.push(frame.data(streamId, body, trailers === undefined ? END_STREAM : 0));
  if (trailers !== undefined) bytes.push(...headerFrames(streamId, encode(trailers), vector.trailersEnd));
  return bytes;
}
