import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/proxy/core/errors.ts";
import {
  decodeHuffman,
  encodeHuffman,
  huffmanDecodedBound,
  huffmanLength,
} from "../../src/proxy/wire/http2/hpack/huffman.ts";
import { HeaderBlock, HpackDecoder, HpackEncoder } from "../../src/proxy/wire/http2/hpack/index.ts";
import type { Http2Stream } from "../../src/proxy/wire/http2/index.ts";
import { PREFACE } from "../../src/proxy/wire/http2/index.ts";
import { blockFields, encodeBlock } from "../support/hpack.ts";
import {
  clientSide,
  END_HEADERS,
  END_STREAM,
  exchange,
  type Fields,
  frame,
  GET,
  headerList,
  literalBlock,
  OK,
  openClient,
  openServer,
  POST,
  rawFrame,
  request,
  response,
  serverSide,
} from "../support/http2.ts";

const latin1 = (maxLength: number) =>
  fc.array(fc.integer({ min: 0, max: 255 }), { maxLength }).map((octets) => String.fromCharCode(...octets));
const allowed = Array.from({ length: 224 }, (_, i) => i + 32).filter((octet) => octet !== 127);
const visible = fc
  .array(fc.constantFrom(9, ...allowed), { maxLength: 60 })
  .map((octets) => String.fromCharCode(...octets));
const name = fc.oneof(
  fc.constantFrom(
    "accept",
    "content-type",
    "cookie",
    "authorization",
    "x-request-id",
    "etag",
    "grpc-status",
    "x-a",
    "x-b",
  ),
  fc.stringMatching(/^x-[a-z0-9-]{1,12}$/),
);
const value = fc.oneof(
  fc.constantFrom("", "1", "2", "application/grpc", "gzip, deflate"),
  visible.map((text) => text.replace(/^[\t ]+|[\t ]+$/g, "")),
  fc.stringMatching(/^[a-z]{1,500}$/),
);
const fields = fc.array(fc.tuple(name, value), { maxLength: 12 });

describe("HPACK", () => {
  it("Huffman: what was encoded is decoded", () => {
    fc.assert(
      fc.property(latin1(200), (text) => {
        const buffer = Buffer.alloc(text.length * 4 + 1);
        const end = encodeHuffman(text, buffer, 0);
        expect(end).toBe(huffmanLength(text));
        const out = Buffer.alloc(huffmanDecodedBound(end));
        const length = decodeHuffman(buffer, 0, end, out);
        expect(out.toString("latin1", 0, length)).toBe(text);
      }),
    );
  });

  it("stories: every block of a connection comes out as it went in, whatever the table's size does", () => {
    const event = fc.oneof(
      { weight: 8, arbitrary: fields.map((list) => ({ list, size: -1 })) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 4096 }).map((size) => ({ list: [] as Fields, size })) },
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (story) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder(4096);
        const block = new HeaderBlock(1 << 24);
        for (const { list, size } of story) {
          if (size >= 0) encoder.resize(size);
          const bytes = encodeBlock(encoder, list);
          decoder.decode(bytes, 0, bytes.length, block);
          expect(blockFields(block)).toEqual(list.map((field) => [...field]));
          expect(block.fault).toBeUndefined();
        }
      }),
      { numRuns: 150 },
    );
  });

  it("arbitrary bytes give fields or COMPRESSION_ERROR, and a table within its bound", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }), (blocks) => {
        const decoder = new HpackDecoder(256);
        const block = new HeaderBlock(16_384);
        for (const bytes of blocks) {
          try {
            decoder.decode(Buffer.from(bytes), 0, bytes.length, block);
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
            expect((error as ProtocolError).code).toBe(9);
            return;
          }
          expect(decoder.tableSize).toBeLessThanOrEqual(256);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** A conversation with everything in it, as one peer would write it. */
const toServer = Buffer.concat([
  PREFACE,
  frame.settings([4, 100], [1, 0]),
  frame.settingsAck(),
  rawFrame(1, END_STREAM, 1, literalBlock(GET).subarray(0, 9)),
  frame.continuation(1, literalBlock(GET).subarray(9)),
  frame.headers(3, [...POST, ["x-own", "1"]], END_HEADERS),
  frame.ping(),
  rawFrame(0, 8, 3, Buffer.concat([Buffer.from([3]), Buffer.from("hello"), Buffer.alloc(3)])),
  frame.windowUpdate(3, 10),
  frame.data(3, "world"),
  frame.headers(5, [[":method", "get"], ...GET.slice(1)]),
  frame.priority(7, 3),
  rawFrame(0x99, 0, 9, Buffer.alloc(20)),
  frame.headers(3, [["x-trailer", "1"]]),
  frame.headers(7, POST, END_HEADERS),
  frame.data(7, Buffer.alloc(700, "x")),
  frame.reset(7, 8),
  frame.goaway(0, 0),
  frame.headers(9, POST, END_HEADERS),
  frame.windowUpdate(9, 0x7fff_ffff),
]);
const toClient = Buffer.concat([
  frame.settings([3, 10]),
  frame.settingsAck(),
  frame.headers(1, [[":status", "103"]], END_HEADERS),
  frame.headers(1, [...OK, ["content-length", "10"]], END_HEADERS),
  frame.data(1, "hello"),
  frame.ping(),
  rawFrame(0, 9, 1, Buffer.concat([Buffer.from([2]), Buffer.from("world"), Buffer.alloc(2)])),
  frame.headers(3, [...OK, ["Bad", "1"]]),
  frame.headers(5, OK, END_HEADERS),
  frame.headers(5, [["grpc-status", "0"]]),
  frame.goaway(7, 0),
  frame.reset(7, 2),
]);

/** Cuts at these fractions of the length. */
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });

function pieces(bytes: Buffer, at: readonly number[]): Buffer[] {
  const offsets = [0, ...at.map((fraction) => Math.floor(fraction * bytes.length)), bytes.length].sort((a, b) => a - b);
  return offsets
    .slice(1)
    .map((end, i) => bytes.subarray(offsets[i], end))
    .filter((piece) => piece.length > 0);
}

function startRequests(side: ReturnType<typeof openClient>): void {
  for (let i = 0; i < 5; i++) {
    side.machine.sendRequest(side.machine.openStream(undefined) as Http2Stream, request("GET", "/"), true);
  }
  side.sink.take();
}

/** Everything that can be seen from outside. The order of frames in the sink is the order of events. */
function playServer(parts: Buffer[]) {
  const side = serverSide();
  side.recorder.react = (event, stream) => {
    if (stream !== undefined && /^(request .* end$|trailers)/.test(event)) {
      side.machine.sendHead(stream, response(200, [["x", "1"]]), false);
      side.machine.sendData(stream, Buffer.alloc(150, "d"), true);
    }
  };
  for (const part of parts) side.receive(part);
  return { events: side.recorder.events, content: side.recorder.content(3).toString(), frames: side.frames() };
}

function playClient(parts: Buffer[]) {
  const side = clientSide();
  startRequests(side);
  for (const part of parts) side.receive(part);
  return {
    events: side.recorder.events.filter((event) => event !== "capacity"),
    content: side.recorder.content(1).toString(),
    frames: side.frames(),
  };
}

describe("any split of the bytes gives the same events and the same answer", () => {
  const server = playServer([toServer]);
  const client = playClient([toClient]);

  it("the conversations say what they should", () => {
    expect(server.events).toContain("reset 7 8 remote");
    expect(server.events.at(-1)).toBe("reset 9 3 local");
    expect(server.content).toBe("helloworld");
    expect(client.events.slice(-2)).toEqual(["goaway 7 0", "reset 7 2 remote"]);
    expect(client.events).toContain("data-end 1 10");
  });

  it("octet by octet", () => {
    expect(playServer([...toServer].map((octet) => Buffer.from([octet])))).toEqual(server);
    expect(playClient([...toClient].map((octet) => Buffer.from([octet])))).toEqual(client);
  });

  it("server", () => {
    fc.assert(
      fc.property(cuts, (at) => {
        expect(playServer(pieces(toServer, at))).toEqual(server);
      }),
    );
  });

  it("client", () => {
    fc.assert(
      fc.property(cuts, (at) => {
        expect(playClient(pieces(toClient, at))).toEqual(client);
      }),
    );
  });
});

describe("arbitrary bytes never throw", () => {
  const anyFrame = fc
    .tuple(
      fc.oneof(
        { weight: 9, arbitrary: fc.integer({ min: 0, max: 10 }) },
        { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) },
      ),
      fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 0x2d), fc.integer({ min: 0, max: 255 })),
      fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 0x7fff_ffff })),
      fc.oneof(
        fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
        fields.map((list) => literalBlock([...GET, ...list])),
        fields.map((list) => literalBlock([...OK, ...list])),
        fc.constantFrom(Buffer.alloc(4), Buffer.alloc(5), Buffer.alloc(6), Buffer.alloc(8), Buffer.from([0, 0, 1, 0])),
      ),
    )
    .map(([type, flags, streamId, payload]) => rawFrame(type, flags, streamId, payload));
  const soup = fc.array(
    fc.oneof(
      { weight: 5, arbitrary: anyFrame },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
    ),
    { maxLength: 30 },
  );

  const check = (
    side: ReturnType<typeof openServer> | ReturnType<typeof openClient>,
    parts: Buffer[],
    at: number[],
  ) => {
    for (const part of pieces(Buffer.concat(parts), at)) side.receive(part);
    side.pass(100_000);
    const { events, error } = side.recorder;
    if (error !== undefined) {
      expect(error.scope).toBe("connection");
      expect(events.at(-1)).toBe(`connection-error ${error.code}`);
      expect(side.machine.openStreams).toBe(0);
    }
    // Whatever was said, what we say is frames.
    side.frames();
  };

  it("server", () => {
    fc.assert(
      fc.property(soup, cuts, (parts, at) => check(openServer(), parts, at)),
      { numRuns: 300 },
    );
  });

  it("client", () => {
    fc.assert(
      fc.property(soup, cuts, (parts, at) => {
        const side = openClient();
        startRequests(side);
        check(side, parts, at);
      }),
      { numRuns: 300 },
    );
  });
});

describe("a client and a server", () => {
  it("carry any message through any windows", () => {
    const message = fc.record({
      fields,
      pieces: fc.array(fc.nat({ max: 5_000 }), { maxLength: 5 }),
      trailers: fc.option(fields, { nil: undefined }),
    });
    fc.assert(
      fc.property(
        message,
        message,
        fc.integer({ min: 16, max: 70_000 }),
        fc.integer({ min: 16, max: 70_000 }),
        (asked, answered, clientWindow, serverWindow) => {
          const client = clientSide({ streamWindowBytes: clientWindow });
          const server = serverSide({ streamWindowBytes: serverWindow });
          exchange(client, server);
          const say = (
            machine: typeof client.machine | typeof server.machine,
            stream: Http2Stream,
            what: typeof asked,
          ) => {
            for (const size of what.pieces) machine.sendData(stream, Buffer.alloc(size, size), false);
            if (what.trailers !== undefined) machine.sendTrailers(stream, headerList(what.trailers));
            else machine.sendData(stream, Buffer.alloc(0), true);
          };
          const stream = client.machine.openStream(undefined) as Http2Stream;
          client.machine.sendRequest(stream, request("POST", "/", asked.fields), false);
          say(client.machine, stream, asked);
          exchange(client, server);
          const taken = server.recorder.streams.get(1) as Http2Stream;
          server.machine.sendHead(taken, response(200, answered.fields), false);
          say(server.machine, taken, answered);
          exchange(client, server);
          const whole = (what: typeof asked) => Buffer.concat(what.pieces.map((size) => Buffer.alloc(size, size)));
          expect(server.recorder.content(1).equals(whole(asked))).toBe(true);
          expect(client.recorder.content(1).equals(whole(answered))).toBe(true);
          expect(server.recorder.events[0]).toBe(`request 1 POST http://a/ ${JSON.stringify(asked.fields)}`);
          expect(client.machine.openStreams + server.machine.openStreams).toBe(0);
          expect(client.recorder.error ?? server.recorder.error).toBeUndefined();
        },
      ),
      { numRuns: 60 },
    );
  });
});
