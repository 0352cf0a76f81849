import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Stream, PREFACE } from "../../../../../src/proxy/wire/http2/index.ts";
import {
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  GET,
  headerList,
  literalBlock,
  openServer,
  POST,
  rawFrame,
  response,
  serverSide,
} from "../../../../support/http2.ts";

type Server = ReturnType<typeof openServer>;

/** The connection is lost: GOAWAY with this code, and reported. */
function expectConnectionError(side: Server, code: number): void {
  expect(side.frames().at(-1)).toMatch(new RegExp(`^GOAWAY 0 \\d+ ${code}$`));
  expect(side.recorder.events.at(-1)).toBe(`connection-error ${code}`);
  expect(side.machine.openStreams).toBe(0);
  expect(side.machine.timeoutAt()).toBeUndefined();
}

/** The stream is lost, and the connection is not. */
function expectStreamError(side: Server, streamId: number, code: number): void {
  expect(side.frames()).toContain(`RST_STREAM ${streamId} ${code}`);
  expect(side.recorder.error).toBeUndefined();
  side.receive(frame.ping());
  expect(side.frames()).toEqual(["PING 0 ack"]);
}

/** The answer to the PING that ends what was written. */
function pingAck(written: Buffer): Buffer {
  const ack = Buffer.from(written.subarray(-PING_FRAME_BYTES));
  ack[4] = ACK;
  return ack;
}
const PING_FRAME_BYTES = 17;
const ACK = 1;

function stream(side: Server, id: number): Http2Stream {
  return side.recorder.streams.get(id) as Http2Stream;
}

const OPEN = frame.headers(1, POST, END_HEADERS);
const ENDED = frame.headers(1, GET);

describe("RFC 9113 §3.4: the preface", () => {
  it("the server speaks first", () => {
    const side = serverSide();
    expect(side.frames()).toEqual(["SETTINGS 0", "WINDOW_UPDATE 0 +983041"]);
  });

  it("is taken octet by octet", () => {
    const side = serverSide();
    for (const octet of Buffer.concat([PREFACE, frame.settings(), ENDED])) side.receive(Buffer.from([octet]));
    expect(side.recorder.take()).toEqual(["request 1 GET http://a/ [] end"]);
  });

  it("anything else costs the connection", () => {
    const side = serverSide();
    side.receive(Buffer.from("GET / HTTP/1.1\r\n"));
    expectConnectionError(side, ErrorCode.protocolError);
  });

  it.each([
    ["another frame", frame.ping()],
    ["a SETTINGS acknowledgement", frame.settingsAck()],
  ])("%s before SETTINGS costs the connection", (_name, bytes) => {
    const side = serverSide();
    side.receive(PREFACE, bytes);
    expectConnectionError(side, ErrorCode.protocolError);
  });
});

describe("RFC 9113 §4: frames", () => {
  it("§4.1 unknown types are ignored, on any stream", () => {
    const side = openServer().receive(rawFrame(0x16, 0xff, 0, Buffer.alloc(100)), rawFrame(0xff, 0, 77), ENDED);
    expect(side.recorder.take()).toHaveLength(1);
  });

  it("§4.1 undefined flags and the reserved bit are ignored", () => {
    const side = openServer().receive(rawFrame(6, 0xfe, 0x8000_0000, Buffer.alloc(8)));
    expect(side.frames()).toEqual(["PING 0 ack"]);
  });

  it("§4.2 DATA of 16,384 octets is taken", () => {
    const side = openServer().receive(OPEN, frame.data(1, Buffer.alloc(16_384), END_STREAM));
    expect(side.recorder.take().at(-1)).toBe("data-end 1 16384");
  });

  it.each([
    ["DATA", rawFrame(0, 0, 1, Buffer.alloc(16_385))],
    ["HEADERS", rawFrame(1, 0, 3, Buffer.alloc(16_385))],
    ["unknown", rawFrame(0x20, 0, 0, Buffer.alloc(16_385))],
  ])("§4.2 %s beyond SETTINGS_MAX_FRAME_SIZE costs the connection", (_name, bytes) => {
    const side = openServer().receive(OPEN, bytes);
    expectConnectionError(side, ErrorCode.frameSizeError);
  });

  it("§4.3 a block that cannot be decoded costs the connection", () => {
    const side = openServer().receive(rawFrame(1, 5, 1, [0x40, 0x01]));
    expectConnectionError(side, ErrorCode.compressionError);
  });

  it.each([
    ["PRIORITY", frame.priority(1, 0)],
    ["HEADERS of another stream", frame.headers(3, GET)],
    ["an unknown frame", rawFrame(0x16, 0, 0)],
    ["CONTINUATION of another stream", frame.continuation(3, Buffer.alloc(0))],
  ])("§4.3 %s within a header block costs the connection", (_name, bytes) => {
    const side = openServer().receive(rawFrame(1, 0, 1, literalBlock(GET)), bytes);
    expectConnectionError(side, ErrorCode.protocolError);
  });
});

describe("RFC 9113 §5.1: frames in stream states", () => {
  it.each([
    ["DATA", frame.data(1, "x")],
    ["RST_STREAM", frame.reset(1, 8)],
    ["WINDOW_UPDATE", frame.windowUpdate(1, 1)],
    ["CONTINUATION", frame.continuation(1, literalBlock(GET))],
  ])("idle: %s costs the connection", (_name, bytes) => {
    expectConnectionError(openServer().receive(bytes), ErrorCode.protocolError);
  });

  it("idle: PRIORITY is ignored", () => {
    const side = openServer().receive(frame.priority(1, 0), ENDED);
    expect(side.recorder.take()).toHaveLength(1);
  });

  it.each([
    ["DATA", frame.data(1, "x"), ErrorCode.streamClosed],
    ["HEADERS", frame.headers(1, GET), ErrorCode.streamClosed],
  ])("half-closed (remote): %s costs the stream", (_name, bytes, code) => {
    const side = openServer().receive(ENDED, bytes);
    expectStreamError(side, 1, code);
    expect(side.recorder.take().at(-1)).toBe(`reset 1 ${code} local`);
  });

  it("half-closed (remote): WINDOW_UPDATE, PRIORITY, RST_STREAM are taken", () => {
    const side = openServer().receive(ENDED, frame.windowUpdate(1, 9), frame.priority(1, 3), frame.reset(1, 8));
    expect(side.recorder.take()).toEqual(["request 1 GET http://a/ [] end", "reset 1 8 remote"]);
  });

  it.each([
    ["DATA", frame.data(1, "x")],
    ["HEADERS", frame.headers(1, GET)],
  ])("closed by both ends: %s costs the connection", (_name, bytes) => {
    const side = openServer().receive(ENDED);
    side.machine.sendHead(stream(side, 1), response(200), true);
    side.receive(bytes);
    expectConnectionError(side, ErrorCode.streamClosed);
  });

  it("closed by both ends: WINDOW_UPDATE and RST_STREAM may have crossed our end", () => {
    const side = openServer().receive(ENDED);
    side.machine.sendHead(stream(side, 1), response(200), true);
    side.receive(frame.windowUpdate(1, 5), frame.reset(1, 8), frame.priority(1, 0));
    expect(side.recorder.take()).toHaveLength(1);
    expect(side.recorder.error).toBeUndefined();
  });

  it.each([
    ["DATA", frame.data(1, "x")],
    ["HEADERS", frame.headers(1, GET)],
  ])("reset by the client: %s costs the stream again", (_name, bytes) => {
    const side = openServer().receive(OPEN, frame.reset(1, 8), bytes);
    expectStreamError(side, 1, ErrorCode.streamClosed);
  });

  it("reset by us: what was on its way is ignored, tables and windows stay right", () => {
    const side = openServer({ connectionWindowBytes: 65_535 }).receive(OPEN);
    side.machine.reset(stream(side, 1), ErrorCode.cancel);
    side.frames();
    const indexed = literalBlock([["x-own", "1"]]);
    indexed[0] = 0x40;
    side.receive(frame.data(1, Buffer.alloc(16_384)), frame.data(1, Buffer.alloc(16_384)), frame.windowUpdate(1, 5));
    expect(side.frames()).toEqual(["WINDOW_UPDATE 0 +32768"]);
    side.receive(rawFrame(1, END_HEADERS | END_STREAM, 1, indexed));
    side.receive(rawFrame(1, 5, 3, Buffer.concat([literalBlock(GET), Buffer.from([0xbe])])));
    expect(side.recorder.take().at(-1)).toBe(`request 3 GET http://a/ [["x-own","1"]] end`);
    expect(side.recorder.error).toBeUndefined();
  });

  it("remembers the latest resets, and is lenient about older ones", () => {
    const side = openServer({ trusted: true });
    for (let id = 1; id < 2400; id += 2) {
      side.receive(frame.headers(id, POST, END_HEADERS));
      side.machine.reset(stream(side, id), ErrorCode.cancel);
    }
    side.receive(frame.data(1, "late"), frame.data(1201, "late"), frame.data(2399, "late"));
    expect(side.recorder.error).toBeUndefined();
  });
});

describe("RFC 9113 §5.1.1, §5.1.2: identifiers and concurrency", () => {
  it("even identifiers are not a client's", () => {
    expectConnectionError(openServer().receive(frame.headers(2, GET)), ErrorCode.protocolError);
  });

  it("a lower identifier than the last costs the connection", () => {
    expectConnectionError(openServer().receive(frame.headers(5, GET), frame.headers(3, GET)), ErrorCode.protocolError);
  });

  it("beyond the limit, streams are refused and can be tried again", () => {
    const side = openServer({ maxConcurrentStreams: 2 });
    side.receive(frame.headers(1, GET), frame.headers(3, POST, END_HEADERS), frame.headers(5, GET));
    expectStreamError(side, 5, ErrorCode.refusedStream);
    expect(side.recorder.take()).toHaveLength(2);
    side.machine.sendHead(stream(side, 1), response(200), true);
    side.receive(frame.headers(7, GET), frame.data(5, "late"));
    expect(side.recorder.take()).toHaveLength(1);
  });

  it("at the end of the identifiers the connection ends gracefully", () => {
    const side = openServer().receive(frame.headers(0x7fff_ffff, GET));
    expect(side.machine.isGoingAway).toBe(true);
    expect(side.recorder.take()).toHaveLength(1);
    expect(side.frames()).toContain("GOAWAY 0 2147483647 0");
  });
});

describe("RFC 9113 §5.3.1 (RFC 7540): a stream that depends on itself", () => {
  it("in HEADERS", () => {
    const payload = Buffer.concat([Buffer.from([0, 0, 0, 1, 15]), literalBlock(GET)]);
    expectStreamError(openServer().receive(rawFrame(1, 0x25, 1, payload)), 1, ErrorCode.protocolError);
  });

  it("in PRIORITY", () => {
    expectStreamError(openServer().receive(OPEN, frame.priority(1, 1)), 1, ErrorCode.protocolError);
  });
});

describe("RFC 9113 §6: each frame's rules", () => {
  const connection: [string, Buffer[], number][] = [
    ["§6.1 DATA on stream 0", [frame.data(0, "x")], ErrorCode.protocolError],
    ["§6.1 padding as long as the payload", [OPEN, rawFrame(0, 8, 1, [4, 0, 0, 0])], ErrorCode.protocolError],
    ["§6.1 no room for the pad length", [OPEN, rawFrame(0, 8, 1)], ErrorCode.frameSizeError],
    ["§6.2 HEADERS on stream 0", [frame.headers(0, GET)], ErrorCode.protocolError],
    ["§6.2 padding beyond the payload", [rawFrame(1, 0xd, 1, [9, 0x82])], ErrorCode.protocolError],
    ["§6.2 no room for the priority", [rawFrame(1, 0x25, 1, [0, 0])], ErrorCode.frameSizeError],
    ["§6.3 PRIORITY on stream 0", [frame.priority(0, 1)], ErrorCode.protocolError],
    ["§6.4 RST_STREAM on stream 0", [frame.reset(0, 8)], ErrorCode.protocolError],
    ["§6.4 RST_STREAM of 3 octets", [OPEN, rawFrame(3, 0, 1, [0, 0, 0])], ErrorCode.frameSizeError],
    ["§6.5 SETTINGS on a stream", [rawFrame(4, 0, 1)], ErrorCode.protocolError],
    ["§6.5 SETTINGS of 5 octets", [rawFrame(4, 0, 0, Buffer.alloc(5))], ErrorCode.frameSizeError],
    ["§6.5 acknowledgement with a payload", [rawFrame(4, 1, 0, Buffer.alloc(6))], ErrorCode.frameSizeError],
    ["§6.5.2 ENABLE_PUSH 2", [frame.settings([2, 2])], ErrorCode.protocolError],
    ["§6.5.2 INITIAL_WINDOW_SIZE 2^31", [frame.settings([4, 2 ** 31])], ErrorCode.flowControlError],
    ["§6.5.2 MAX_FRAME_SIZE 16383", [frame.settings([5, 16_383])], ErrorCode.protocolError],
    ["§6.5.2 MAX_FRAME_SIZE 2^24", [frame.settings([5, 2 ** 24])], ErrorCode.protocolError],
    ["§6.6 PUSH_PROMISE", [OPEN, rawFrame(5, 4, 1, [0, 0, 0, 2])], ErrorCode.protocolError],
    ["§6.7 PING on a stream", [rawFrame(6, 0, 1, Buffer.alloc(8))], ErrorCode.protocolError],
    ["§6.7 PING of 6 octets", [rawFrame(6, 0, 0, Buffer.alloc(6))], ErrorCode.frameSizeError],
    ["§6.8 GOAWAY on a stream", [rawFrame(7, 0, 1, Buffer.alloc(8))], ErrorCode.protocolError],
    ["§6.8 GOAWAY of 7 octets", [rawFrame(7, 0, 0, Buffer.alloc(7))], ErrorCode.frameSizeError],
    ["§6.9 WINDOW_UPDATE of 0 on the connection", [frame.windowUpdate(0, 0)], ErrorCode.protocolError],
    ["§6.9 WINDOW_UPDATE of 3 octets", [rawFrame(8, 0, 0, [0, 0, 1])], ErrorCode.frameSizeError],
    ["§6.9.1 connection window beyond 2^31-1", [frame.windowUpdate(0, 0x7fff_ffff)], ErrorCode.flowControlError],
    ["§6.10 CONTINUATION without HEADERS", [OPEN, frame.continuation(1, literalBlock(GET))], ErrorCode.protocolError],
    ["§6.10 CONTINUATION on stream 0", [frame.continuation(0, Buffer.alloc(0))], ErrorCode.protocolError],
  ];
  it.each(connection)("%s costs the connection", (_name, bytes, code) => {
    expectConnectionError(openServer().receive(...bytes), code);
  });

  const streams: [string, Buffer[], number][] = [
    ["§6.3 PRIORITY of 4 octets", [OPEN, rawFrame(2, 0, 1, [0, 0, 0, 0])], ErrorCode.frameSizeError],
    ["§6.9 WINDOW_UPDATE of 0", [OPEN, frame.windowUpdate(1, 0)], ErrorCode.protocolError],
    ["§6.9.1 stream window beyond 2^31-1", [OPEN, frame.windowUpdate(1, 0x7fff_ffff)], ErrorCode.flowControlError],
  ];
  it.each(streams)("%s costs the stream", (_name, bytes, code) => {
    const side = openServer().receive(...bytes);
    expectStreamError(side, 1, code);
    expect(side.recorder.take().at(1)).toBe(`reset 1 ${code} local`);
    expect(stream(side, 1).fault).toMatch(/\(RFC 9113 §6/);
  });

  it("§6.1 padding is removed and credited", () => {
    const side = openServer({ connectionWindowBytes: 65_535 }).receive(OPEN);
    side.recorder.credits = false;
    for (let i = 0; i < 200; i++)
      side.receive(rawFrame(0, 8, 1, Buffer.concat([Buffer.from([200, 0x78]), Buffer.alloc(200)])));
    expect(side.recorder.content(1).toString()).toBe("x".repeat(200));
    expect(side.frames()).toEqual(["WINDOW_UPDATE 1 +32964", "WINDOW_UPDATE 0 +32964"]);
  });

  it("§6.2 padded HEADERS with priority are read", () => {
    const payload = Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 7]), literalBlock(GET), Buffer.alloc(3)]);
    const side = openServer().receive(rawFrame(1, 0x2d, 1, payload));
    expect(side.recorder.take()).toEqual(["request 1 GET http://a/ [] end"]);
  });

  it("§6.5 SETTINGS are acknowledged, unknown ones ignored", () => {
    const side = openServer().receive(frame.settings([0xff, 1], [3, 5], [6, 100], [2, 0]));
    expect(side.frames()).toEqual(["SETTINGS 0 ack"]);
  });

  it("§6.7 PING is answered with its own octets, PING answers are not", () => {
    const side = openServer().receive(frame.ping("abcdefgh"), frame.ping("zzzzzzzz", 1));
    expect(side.sink.take()).toEqual(frame.ping("abcdefgh", 1));
  });

  it("§6.8 GOAWAY from the client is reported, its streams go on", () => {
    const side = openServer().receive(ENDED, frame.goaway(0, 0xff));
    expect(side.recorder.take().at(-1)).toBe("goaway 0 255");
    side.machine.sendHead(stream(side, 1), response(200), true);
    expect(side.frames()).toEqual(["HEADERS 1 end"]);
  });

  it("§6.10 a block over several frames is one block", () => {
    const block = literalBlock(GET);
    const side = openServer().receive(
      rawFrame(1, END_STREAM, 1, block.subarray(0, 5)),
      frame.continuation(1, block.subarray(5, 6), 0),
      frame.continuation(1, Buffer.alloc(0), 0),
      frame.continuation(1, block.subarray(6)),
    );
    expect(side.recorder.take()).toEqual(["request 1 GET http://a/ [] end"]);
  });

  it("§7 unknown error codes are passed on as they are", () => {
    const side = openServer().receive(OPEN, frame.reset(1, 0xffff_ffff));
    expect(side.recorder.take().at(-1)).toBe("reset 1 4294967295 remote");
  });
});

describe("RFC 9113 §8.1: messages", () => {
  it("content and trailers", () => {
    const side = openServer().receive(
      OPEN,
      frame.data(1, "hello"),
      frame.headers(1, [["x-sum", "1"]], END_HEADERS | END_STREAM),
    );
    expect(side.recorder.take()).toEqual(["request 1 POST http://a/ []", `trailers 1 [["x-sum","1"]]`]);
    expect(side.recorder.content(1).toString()).toBe("hello");
  });

  it("an empty DATA frame ends a message", () => {
    const side = openServer().receive(OPEN, frame.data(1, "hello"), frame.data(1, "", END_STREAM));
    expect(side.recorder.take().at(-1)).toBe("data-end 1 5");
  });

  it("interim responses precede the final one, later ones are dropped", () => {
    const side = openServer().receive(ENDED);
    side.machine.sendInterim(stream(side, 1), response(100));
    side.machine.sendHead(stream(side, 1), response(200), false);
    side.machine.sendInterim(stream(side, 1), response(103));
    side.machine.sendHead(stream(side, 1), response(500), false);
    side.machine.sendTrailers(stream(side, 1), headerList([["grpc-status", "0"]]));
    expect(side.frames()).toEqual(["HEADERS 1", "HEADERS 1", "HEADERS 1 end"]);
    expect(side.machine.openStreams).toBe(0);
  });

  it("a complete response may come before the request's end, and the rest be unwanted", () => {
    const side = openServer().receive(OPEN);
    side.machine.sendHead(stream(side, 1), response(413), true);
    expect(side.machine.openStreams).toBe(1);
    side.machine.reset(stream(side, 1), ErrorCode.noError);
    expect(side.frames()).toEqual(["HEADERS 1 end", "RST_STREAM 1 0"]);
    side.receive(frame.data(1, "late", END_STREAM));
    expect(side.recorder.error).toBeUndefined();
  });

  it("nothing is said on a stream that is gone", () => {
    const side = openServer().receive(OPEN, frame.reset(1, 8));
    const gone = stream(side, 1);
    side.machine.sendHead(gone, response(200), false);
    expect(side.machine.sendData(gone, Buffer.from("x"), true)).toBe(true);
    side.machine.sendTrailers(gone, headerList([]));
    side.machine.reset(gone, 8);
    side.machine.credit(gone, 10);
    expect(side.frames()).toEqual([]);
  });

  it("§8.1.1 a stream may be reset by the handler while its content arrives", () => {
    const side = openServer({ connectionWindowBytes: 65_535 }).receive(OPEN);
    side.recorder.react = (event, at) => {
      if (event.startsWith("data-end") && at !== undefined) side.machine.reset(at, ErrorCode.cancel);
    };
    side.receive(
      frame.data(1, Buffer.alloc(16_000)),
      frame.data(1, Buffer.alloc(16_000)),
      frame.data(1, Buffer.alloc(768), 1),
    );
    expect(side.frames().at(-1)).toMatch(/^RST_STREAM 1 8/);
    expect(side.recorder.error).toBeUndefined();
  });
});

describe("RFC 9113 §8.1.1: content-length", () => {
  const withLength = (length: string, flags = END_HEADERS) =>
    frame.headers(1, [...POST, ["content-length", length]], flags);

  it.each([
    ["less content", [withLength("6"), frame.data(1, "hello", END_STREAM)]],
    ["more content", [withLength("4"), frame.data(1, "hello", END_STREAM)]],
    ["more content over two frames", [withLength("4"), frame.data(1, "hel"), frame.data(1, "lo", END_STREAM)]],
    ["no content at all", [withLength("1", END_HEADERS | END_STREAM)]],
    ["trailers too early", [withLength("5"), frame.data(1, "hell"), frame.headers(1, [["x", "1"]])]],
  ])("%s costs the stream", (_name, bytes) => {
    const side = openServer().receive(...bytes);
    expectStreamError(side, 1, ErrorCode.protocolError);
    expect(side.recorder.content(1).length).toBeLessThan(5);
  });

  it("the excess goes nowhere", () => {
    const side = openServer().receive(withLength("3"), frame.data(1, "abcGET /smuggled"));
    expect(side.recorder.content(1).toString()).toBe("");
    expectStreamError(side, 1, ErrorCode.protocolError);
  });

  it("equal is fine, 0 without content too", () => {
    const side = openServer().receive(withLength("5"), frame.data(1, "hello", END_STREAM));
    side.receive(frame.headers(3, [...POST, ["content-length", "0"]]));
    expect(side.recorder.take()).toEqual([
      `request 1 POST http://a/ [["content-length","5"]]`,
      "data-end 1 5",
      `request 3 POST http://a/ [["content-length","0"]] end`,
    ]);
  });
});

describe("RFC 9113 §8.3.1: what a request may say", () => {
  const CONNECT: Fields = [
    [":method", "CONNECT"],
    [":authority", "db:5432"],
  ];
  const without = (name: string): Fields => GET.filter(([field]) => field !== name);

  it.each<[string, Fields]>([
    ["no :method", without(":method")],
    ["no :scheme", without(":scheme")],
    ["no :path", without(":path")],
    ["an empty :path", [...without(":path"), [":path", ""]]],
    [":path * in GET", [...without(":path"), [":path", "*"]]],
    ["two :path", [...GET, [":path", "/"]]],
    ["two :authority", [...GET, [":authority", "a"]]],
    [":status", [...GET, [":status", "200"]]],
    ["a pseudo-header after a field", [...without(":path"), ["x", "1"], [":path", "/"]]],
    ["an unknown pseudo-header", [...GET, [":x", "1"]]],
    ["two Host", [...without(":authority"), ["host", "a"], ["host", "b"]]],
    ["a Host that differs", [...GET, ["host", "b"]]],
    ["two content-length", [...GET, ["content-length", "0"], ["content-length", "0"]]],
    ["connection", [...GET, ["connection", "close"]]],
    ["CONNECT with :path", [...CONNECT, [":path", "/"]]],
    ["CONNECT with :scheme", [...CONNECT, [":scheme", "http"]]],
    ["CONNECT without :authority", [[":method", "CONNECT"]]],
    [
      "CONNECT without a port",
      [
        [":method", "CONNECT"],
        [":authority", "db"],
      ],
    ],
    [":protocol without being offered", [...GET.slice(1), [":method", "CONNECT"], [":protocol", "websocket"]]],
  ])("%s is malformed", (_name, fields) => {
    const side = openServer().receive(frame.headers(1, fields));
    expectStreamError(side, 1, ErrorCode.protocolError);
    expect(side.recorder.take()).toEqual([]);
  });

  it.each<[string, Fields, string]>([
    ["no :authority at all", without(":authority"), "GET http://-/ []"],
    ["Host instead of :authority", [...without(":authority"), ["host", "a"]], `GET http://-/ [["host","a"]]`],
    ["the same Host", [...GET, ["host", "A:80"]], `GET http://a/ [["host","A:80"]]`],
    [
      "another Host in carried HTTP/1",
      [...GET, ["host", "b"], ["l5d-orig-proto", "HTTP/1.1; absolute-form"]],
      `GET http://a/ [["host","b"],["l5d-orig-proto","HTTP/1.1; absolute-form"]]`,
    ],
    [
      "OPTIONS *",
      [
        [":method", "OPTIONS"],
        [":scheme", "https"],
        [":path", "*"],
      ],
      "OPTIONS https://-* []",
    ],
    ["CONNECT", CONNECT, "CONNECT http://db:5432 []"],
    [
      "cookie crumbs",
      [...GET, ["cookie", "a=1"], ["cookie", "b=2"]],
      `GET http://a/ [["cookie","a=1"],["cookie","b=2"]]`,
    ],
    ["te: trailers", [...GET, ["te", "trailers"]], `GET http://a/ [["te","trailers"]]`],
  ])("%s is taken", (_name, fields, told) => {
    const side = openServer().receive(frame.headers(1, fields));
    expect(side.recorder.take()).toEqual([`request 1 ${told} end`]);
  });

  it("extended CONNECT once it was offered (RFC 8441)", () => {
    const side = openServer({ extendedConnect: true });
    const heads: (string | undefined)[] = [];
    side.recorder.onRequest = (_stream, head) => heads.push(`${head.protocol} ${head.form} ${head.path}`);
    side.receive(frame.headers(1, [[":method", "CONNECT"], ...GET.slice(1), [":protocol", "websocket"]], END_HEADERS));
    expect(heads).toEqual(["websocket origin /"]);
    side.receive(frame.headers(3, [...GET, [":protocol", "websocket"]]));
    expectStreamError(side, 3, ErrorCode.protocolError);
  });

  it.each<[string, Fields, number]>([
    ["without END_STREAM", [["x", "1"]], END_HEADERS],
    ["with a pseudo-header", [[":path", "/"]], END_HEADERS | END_STREAM],
    ["with content-length", [["content-length", "9"]], END_HEADERS | END_STREAM],
    ["with transfer-encoding", [["transfer-encoding", "chunked"]], END_HEADERS | END_STREAM],
    ["with Host", [["host", "b"]], END_HEADERS | END_STREAM],
  ])("trailers %s cost the stream", (_name, fields, flags) => {
    const side = openServer().receive(OPEN, frame.headers(1, fields, flags));
    expectStreamError(side, 1, ErrorCode.protocolError);
    expect(side.recorder.take()[1]).toBe("reset 1 1 local");
  });

  it("a header list that is too large is answered with 431, and the next request is served", () => {
    const large: Fields = Array.from({ length: 60 }, (_, i) => [`x-${i}`, "v".repeat(250)]);
    const side = openServer().receive(frame.headers(1, [...GET, ...large]));
    expect(side.frames()).toEqual(["HEADERS 1 end", "RST_STREAM 1 0"]);
    side.receive(frame.headers(3, GET));
    expect(side.recorder.take()).toEqual(["request 3 GET http://a/ [] end"]);
  });
});

describe("RFC 9113 §8.2.2: what we send", () => {
  it("leaves out connection-specific fields and writes names in lower case", () => {
    const side = openServer().receive(ENDED);
    const fields: Fields = [
      ["Connection", "close"],
      ["Keep-Alive", "1"],
      ["Transfer-Encoding", "chunked"],
      ["Upgrade", "h2c"],
      ["Proxy-Connection", "x"],
      ["TE", "gzip"],
      ["X-Own", "1"],
    ];
    side.machine.sendHead(stream(side, 1), response(299, fields), true);
    const bytes = side.sink.take().toString("latin1");
    expect(bytes).not.toMatch(/chunked|close|gzip|h2c|X-Own/);
  });

  it("goes by the peer's frame size, not by ours", () => {
    const side = openServer({ maxFrameBytes: 1_000_000, streamWindowBytes: 1_000_000 }).receive(OPEN);
    side.receive(frame.data(1, Buffer.alloc(60_000), END_STREAM));
    expect(side.recorder.take().at(-1)).toBe("data-end 1 60000");
    side.machine.sendHead(stream(side, 1), response(200, [["x", "v".repeat(20_000)]]), false);
    side.machine.sendData(stream(side, 1), Buffer.alloc(20_000), true);
    const lines = side.frames();
    expect(lines.filter((line) => /^(HEADERS|CONTINUATION|DATA)/.test(line))).toEqual([
      "HEADERS 1",
      "CONTINUATION 1",
      "DATA 1 [16384]",
      "DATA 1 [3616] end",
    ]);
  });

  it("splits a large head into CONTINUATION frames that the peer's frame size permits", () => {
    const side = openServer().receive(ENDED);
    const values = Array.from({ length: 50 }, (_, i): [string, string] => [`x-${i}`, `${i}`.repeat(1000)]);
    side.machine.sendHead(stream(side, 1), response(200, values), true);
    const frames = side.frames();
    expect(frames[0]).toBe("HEADERS 1 end");
    expect(frames.length).toBeGreaterThan(3);
    expect(new Set(frames.slice(1))).toEqual(new Set(["CONTINUATION 1"]));
  });
});

describe("the end", () => {
  it("half-close: open streams are told first", () => {
    const side = openServer().receive(OPEN).receive(Buffer.alloc(0));
    expect(side.recorder.take().slice(1)).toEqual(["reset 1 8 remote", "end"]);
    side.receive(frame.headers(3, GET));
    expect(side.recorder.take()).toEqual([]);
    expect(side.frames()).toEqual([]);
  });

  it("goaway: streams beyond those seen are not taken, the others go on", () => {
    const side = openServer().receive(OPEN);
    side.machine.goaway(ErrorCode.noError);
    side.receive(frame.headers(3, POST, END_HEADERS), frame.data(3, "x", END_STREAM), frame.data(1, "y", END_STREAM));
    expect(side.recorder.take()).toEqual(["request 1 POST http://a/ []", "data-end 1 1"]);
    expect(side.frames()).toEqual(["GOAWAY 0 1 0"]);
    expect(side.recorder.error).toBeUndefined();
  });

  it("shutdown: the second GOAWAY comes after a second if the peer answers no PING", () => {
    const side = openServer().receive(OPEN).pass(5_000);
    side.machine.shutdown();
    expect(side.frames()).toEqual(["GOAWAY 0 2147483647 0", "PING 0"]);
    expect(side.machine.isShuttingDown).toBe(true);
    side.pass(999);
    expect(side.frames()).toEqual([]);
    side.receive(frame.headers(3, GET));
    side.pass(1);
    expect(side.frames()).toEqual(["GOAWAY 0 3 0"]);
    expect(side.machine.isShuttingDown).toBe(false);
    expect(side.machine.openStreams).toBe(2);
  });

  it("shutdown: a request that the answer to the first PING overtook is served, and named in the second GOAWAY", () => {
    const side = openServer().receive(OPEN);
    side.machine.shutdown();
    // As h2 has it: PING ACK at once, then the HEADERS of a stream that was open before GOAWAY came.
    side.receive(pingAck(side.sink.take()));
    side.receive(frame.headers(3, GET), pingAck(side.sink.take()));
    expect(side.frames()).toEqual(["GOAWAY 0 3 0"]);
    expect(side.machine.openStreams).toBe(2);
    expect(side.machine.isShuttingDown).toBe(false);
  });

  it("shutdown: an answer to a PING that was not sent ends nothing", () => {
    const side = openServer().receive(OPEN);
    side.machine.shutdown();
    const first = pingAck(side.sink.take());
    side.receive(first, first, first);
    expect(side.frames()).toEqual(["PING 0"]);
    expect(side.machine.isShuttingDown).toBe(true);
  });

  it("an error in the handler is not hidden", () => {
    const side = openServer();
    side.recorder.react = () => {
      throw new TypeError("a bug of the driver's");
    };
    expect(() => side.receive(ENDED)).toThrow("a bug of the driver's");
  });
});

describe("time", () => {
  it("the preface must come within ten seconds", () => {
    const side = serverSide().pass(9_999);
    expect(side.recorder.error).toBeUndefined();
    side.sink.take();
    expectConnectionError(side.pass(1), ErrorCode.settingsTimeout);
  });

  it("SETTINGS must be acknowledged within ten seconds", () => {
    const side = serverSide().receive(PREFACE, frame.settings()).pass(5_000);
    side.receive(ENDED).pass(4_999);
    expect(side.recorder.error).toBeUndefined();
    expectConnectionError(side.pass(1), ErrorCode.settingsTimeout);
  });

  it("a frame that has begun must end within ten seconds, whatever its octets do", () => {
    const side = openServer();
    for (let i = 0; i < 20 && side.recorder.error === undefined; i++)
      side.receive(ENDED.subarray(i, i + 1)).pass(1_000);
    expectConnectionError(side, ErrorCode.enhanceYourCalm);
    expect(side.now).toBe(10_000);
  });

  it("a header block must end within ten seconds, however many frames it has", () => {
    const side = openServer().receive(rawFrame(1, 0, 1, literalBlock(GET)));
    for (let i = 0; i < 8; i++) side.pass(1_000).receive(frame.continuation(1, Buffer.alloc(0), 0));
    expect(side.recorder.error).toBeUndefined();
    expectConnectionError(side.pass(2_000), ErrorCode.enhanceYourCalm);
  });

  it("frames that are always cut, but always end, are no offence", () => {
    const side = openServer();
    const bytes = Buffer.concat(Array.from({ length: 40 }, () => frame.ping()));
    side.receive(bytes.subarray(0, 5));
    for (let at = 5; at < 17 * 30; at += 17) side.pass(1_000).receive(bytes.subarray(at, at + 17));
    expect(side.recorder.error).toBeUndefined();
  });

  it("content may come as slowly as it likes", () => {
    const side = openServer().receive(OPEN, frame.data(1, "hello").subarray(0, 11)).pass(100_000);
    expect(side.recorder.error).toBeUndefined();
  });

  it("keep-alive: PING after silence, the connection is lost without an answer", () => {
    const keepAlive = { intervalMs: 10_000, timeoutMs: 3_000, whileIdle: true };
    const side = openServer({ keepAlive }).pass(10_000);
    expect(side.frames()).toEqual(["PING 0"]);
    side.receive(frame.ping("answered", 1)).pass(9_999);
    expect(side.frames()).toEqual([]);
    side.pass(1);
    expect(side.frames()).toEqual(["PING 0"]);
    side.receive(OPEN).pass(10_000 + 2_999);
    expect(side.frames()).toEqual(["PING 0"]);
    side.pass(1);
    expect(side.recorder.take().slice(1)).toEqual(["reset 1 2 local", "connection-error 0"]);
  });

  it("keep-alive: silent while idle unless asked for", () => {
    const keepAlive = { intervalMs: 10_000, timeoutMs: 3_000, whileIdle: false };
    const side = openServer({ keepAlive });
    expect(side.machine.timeoutAt()).toBeUndefined();
    side.receive(OPEN).pass(10_000);
    expect(side.frames()).toEqual(["PING 0"]);
  });

  it("without limits pending there is nothing to wait for", () => {
    expect(openServer().machine.timeoutAt()).toBeUndefined();
  });
});

describe("RFC 9113 §8.5: CONNECT", () => {
  const CONNECT: [string, string][] = [
    [":method", "CONNECT"],
    [":authority", "a:443"],
  ];

  it("content is the tunnel's, a header section in it costs the stream", () => {
    const side = openServer().receive(frame.headers(1, CONNECT, END_HEADERS), frame.data(1, "x"));
    expect(side.recorder.content(1).toString()).toBe("x");
    side.receive(frame.headers(1, [["x", "1"]]));
    expect(side.frames()).toEqual(["RST_STREAM 1 1"]);
    expect(side.recorder.error).toBeUndefined();
  });

  it.each([
    ["a path", [...CONNECT, [":path", "/"]]],
    ["a scheme", [...CONNECT, [":scheme", "http"]]],
    ["no authority", CONNECT.slice(0, 1)],
    ["no port", [CONNECT[0], [":authority", "a"]]],
  ])("with %s is malformed", (_name, fields) => {
    const side = openServer().receive(frame.headers(1, fields as [string, string][], END_HEADERS));
    expect(side.frames()).toEqual(["RST_STREAM 1 1"]);
    expect(side.recorder.events).toEqual([]);
  });
});
