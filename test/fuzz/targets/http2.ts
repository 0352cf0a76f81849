import { ProtocolError } from "../../../src/proxy/core/errors.ts";
import { HeaderBlock, HpackDecoder, HpackEncoder } from "../../../src/proxy/wire/http2/hpack/index.ts";
import type { Http2Stream } from "../../../src/proxy/wire/http2/index.ts";
import { PREFACE } from "../../../src/proxy/wire/http2/index.ts";
import { blockFields, encodeBlock } from "../../support/hpack.ts";
import {
  clientSide,
  END_HEADERS,
  type Fields,
  frame,
  GET,
  literalBlock,
  OK,
  POST,
  rawFrame,
  request,
  response,
  serverSide,
} from "../../support/http2.ts";
import type { FuzzTarget } from "../harness.ts";

const FRAMES = [
  frame.settings([4, 10], [5, 16_384]),
  frame.settingsAck(),
  frame.headers(1, POST, END_HEADERS),
  frame.headers(3, GET),
  frame.headers(1, [["x", "1"]]),
  frame.data(1, "hello"),
  frame.data(1, "", 1),
  rawFrame(0, 8, 1, [2, 0x61, 0, 0]),
  frame.reset(1, 8),
  frame.windowUpdate(1, 100),
  frame.windowUpdate(0, 0x7fff_0000),
  frame.ping(),
  frame.goaway(1, 0),
  frame.priority(1, 3),
  frame.continuation(1, literalBlock([["x", "1"]])),
  rawFrame(1, 0, 5, literalBlock(GET)),
  frame.headers(1, OK, END_HEADERS),
  frame.headers(3, [[":status", "103"]], END_HEADERS),
];
const INDEXED = Buffer.concat([
  Buffer.from("828684418cf1e3c2e5f23a6ba0ab90f4ff", "hex"),
  Buffer.from("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "hex"),
]);

// More than any window at first.
const CONTENT = Buffer.alloc(70_000);

/** Judges a machine after an input: it is either fine or has failed properly, and what it wrote are frames. */
function judge(side: ReturnType<typeof serverSide> | ReturnType<typeof clientSide>): void {
  const { error, events } = side.recorder;
  if (error !== undefined) {
    if (!(error instanceof ProtocolError) || events.at(-1) !== `connection-error ${error.code}`) {
      throw new Error("an error was not the last thing reported");
    }
    if (side.machine.openStreams !== 0) throw new Error("streams outlived their connection");
  }
  if (events.some((event) => /[\r\n\0]/.test(event))) throw new Error("a control character was passed on");
  side.frames();
}

const server: FuzzTarget = {
  name: "http2-server",
  covers: "/src/proxy/wire/http2/",
  seeds: [
    Buffer.concat(FRAMES.slice(0, 8)),
    Buffer.concat([...FRAMES.slice(0, 3), FRAMES[15] as Buffer, FRAMES[14] as Buffer]),
    Buffer.concat([...FRAMES.slice(0, 2), rawFrame(1, 5, 1, INDEXED), ...FRAMES.slice(8, 14)]),
  ],
  dictionary: FRAMES,
  run(pieces) {
    const side = serverSide();
    side.recorder.react = (event, stream) => {
      if (stream === undefined || !/^(request .* end$|data-end|trailers)/.test(event)) return;
      side.machine.sendHead(stream, response(200, [["x", "1"]]), false);
      side.machine.sendData(stream, CONTENT.subarray(0, 200), true);
    };
    side.receive(PREFACE, frame.settings());
    for (const piece of pieces) side.receive(piece);
    side.pass(200_000);
    judge(side);
    return side;
  },
};

const client: FuzzTarget = {
  name: "http2-client",
  covers: "/src/proxy/wire/http2/",
  seeds: [
    Buffer.concat([
      ...FRAMES.slice(0, 2),
      frame.headers(1, [[":status", "103"]], END_HEADERS),
      frame.headers(1, [...OK, ["content-length", "5"]], END_HEADERS),
      frame.data(1, "hello", 1),
      frame.headers(3, OK, END_HEADERS),
      frame.headers(3, [["grpc-status", "0"]]),
      frame.goaway(3, 0),
    ]),
    Buffer.concat(FRAMES),
  ],
  dictionary: FRAMES,
  run(pieces) {
    const side = clientSide({ keepAlive: { intervalMs: 1000, timeoutMs: 1000, whileIdle: true } });
    for (const method of ["GET", "HEAD", "POST"]) {
      const stream = side.machine.openStream(undefined) as Http2Stream;
      side.machine.sendRequest(stream, request(method, "/"), method !== "POST");
      if (method === "POST") side.machine.sendData(stream, CONTENT, true);
    }
    for (const piece of pieces) side.receive(piece);
    side.pass(200_000);
    judge(side);
    return side;
  },
};

const decoder: FuzzTarget = {
  name: "hpack-decode",
  covers: "/src/proxy/wire/http2/hpack/",
  seeds: [INDEXED, literalBlock(GET), Buffer.from("203fe11f82", "hex")],
  dictionary: [
    Buffer.from("be", "hex"),
    Buffer.from("0085f2b24a84ff84", "hex"),
    Buffer.from([0x40]),
    Buffer.from([0x10]),
  ],
  run(pieces) {
    const hpack = new HpackDecoder(4096);
    const block = new HeaderBlock(16_384);
    try {
      for (const piece of pieces) hpack.decode(piece, 0, piece.length, block);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
    if (hpack.tableSize > 4096) throw new Error("the table is larger than its bound");
    return [hpack, block];
  },
};

const NAMES = ["accept", "cookie", "x-a", "x-b", "authorization", "date", "etag", "content-type"];

const roundTrip: FuzzTarget = {
  name: "hpack-round-trip",
  covers: "/src/proxy/wire/http2/hpack/",
  seeds: [Buffer.from("\x00\x05hello\x01\x03abc\xff\x00\x05hello\xfe\x10\x02\x00", "latin1")],
  run(pieces) {
    const bytes = Buffer.concat(pieces);
    const encoder = new HpackEncoder();
    const hpack = new HpackDecoder(4096);
    const block = new HeaderBlock(1 << 24);
    let fields: [string, string][] = [];
    const flush = () => {
      const encoded = encodeBlock(encoder, fields as Fields);
      hpack.decode(encoded, 0, encoded.length, block);
      if (block.fault !== undefined) throw new Error(block.fault);
      if (JSON.stringify(blockFields(block)) !== JSON.stringify(fields)) throw new Error("another list came out");
      fields = [];
    };
    for (let at = 0; at < bytes.length; ) {
      const verb = bytes[at++] as number;
      if (verb === 0xff) flush();
      else if (verb === 0xfe) encoder.resize((bytes[at++] ?? 0) * 32);
      else {
        const length = bytes[at++] ?? 0;
        // Base64 has no octet that a value may not have.
        fields.push([NAMES[verb % NAMES.length] as string, bytes.toString("base64", at, at + length)]);
        at += length;
      }
    }
    flush();
    return [encoder, hpack];
  },
};

export const HTTP2_TARGETS: readonly FuzzTarget[] = [server, client, decoder, roundTrip];
