import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS, ErrorCode, type Http2Stream, PREFACE } from "../../../../../src/proxy/wire/http2/index.ts";
import {
  END_HEADERS,
  END_STREAM,
  frame,
  GET,
  literalBlock,
  openServer,
  POST,
  rawFrame,
  response,
  serverSide,
} from "../../../../support/http2.ts";

type Server = ReturnType<typeof openServer>;

const CALM = ErrorCode.enhanceYourCalm;

/** Does `attack` up to `limit` times without harm, loses the connection with one more, and stays lost far above. */
function expectLimit(side: Server, limit: number, attack: (count: number) => Buffer): void {
  for (let i = 0; i < limit; i++) side.receive(attack(i));
  expect(side.recorder.error, "at the limit").toBeUndefined();
  side.receive(attack(limit));
  expect(side.recorder.error?.code, "one above").toBe(CALM);
  side.sink.take();
  for (let i = limit + 1; i < limit * 10; i++) side.receive(attack(i));
  expect(side.sink.take().length, "far above").toBe(0);
  expect(side.machine.openStreams).toBe(0);
}

describe("F01: rapid reset (CVE-2023-44487)", () => {
  it("200 resets before the response are the limit", () => {
    expectLimit(openServer(), DEFAULT_LIMITS.earlyResets, (i) =>
      Buffer.concat([frame.headers(2 * i + 1, GET), frame.reset(2 * i + 1, 8)]),
    );
  });

  it("so are 200 in one chunk", () => {
    const attack = Buffer.concat(
      Array.from({ length: 20_000 }, (_, i) =>
        Buffer.concat([frame.headers(2 * i + 1, GET), frame.reset(2 * i + 1, 8)]),
      ),
    );
    const side = openServer().receive(attack);
    expect(side.recorder.error?.code).toBe(CALM);
    expect(side.recorder.events.filter((event) => event.startsWith("request"))).toHaveLength(201);
    expect(side.sink.take().length).toBeLessThan(100);
  });

  it("resets after the response began count against 1,000", () => {
    const side = openServer();
    side.recorder.react = (event, stream) => {
      if (event.startsWith("request")) side.machine.sendHead(stream as Http2Stream, response(200), false);
    };
    expectLimit(side, DEFAULT_LIMITS.resets, (i) =>
      Buffer.concat([frame.headers(2 * i + 1, GET), frame.reset(2 * i + 1, 8)]),
    );
  });

  it("MadeYouReset (CVE-2025-8671): resets that the client makes us send count the same", () => {
    expectLimit(openServer(), DEFAULT_LIMITS.earlyResets, (i) =>
      Buffer.concat([frame.headers(2 * i + 1, POST, END_HEADERS), frame.windowUpdate(2 * i + 1, 0)]),
    );
  });

  it("malformed requests and refused streams count as well", () => {
    expectLimit(openServer(), DEFAULT_LIMITS.earlyResets, (i) => frame.headers(2 * i + 1, GET.slice(1)));
    const full = openServer({ maxConcurrentStreams: 1 }).receive(frame.headers(1, GET));
    expectLimit(full, DEFAULT_LIMITS.earlyResets, (i) => frame.headers(2 * i + 3, GET));
  });

  it("a client that has not seen our limit yet is only refused", () => {
    const side = serverSide({ maxConcurrentStreams: 1 }).receive(PREFACE, frame.settings());
    for (let i = 0; i < 1_000; i++) side.receive(frame.headers(2 * i + 1, GET));
    expect(side.recorder.error).toBeUndefined();
    expect(side.recorder.events).toHaveLength(1);
  });

  it("a patient client may reset as often as it likes", () => {
    const side = openServer();
    for (let i = 0; i < 2_000; i++) {
      side.receive(frame.headers(2 * i + 1, GET), frame.reset(2 * i + 1, 8));
      side.now += 60;
    }
    expect(side.recorder.error).toBeUndefined();
  });

  it("a mesh peer's new streams are refused one by one while nine in ten are reset, and the connection stays", () => {
    const side = openServer({ trusted: true });
    const { meshResets } = DEFAULT_LIMITS;
    for (let i = 0; i <= meshResets; i++) {
      expect(side.recorder.take().length, `before ${i}`).toBe(i === 0 ? 0 : 2);
      side.receive(frame.headers(2 * i + 1, GET), frame.reset(2 * i + 1, 8));
    }
    side.sink.take();
    side.recorder.take();
    const next = 2 * meshResets + 3;
    side.receive(frame.headers(next, GET));
    expect(side.frames()).toEqual([`RST_STREAM ${next} ${CALM}`]);
    expect(side.recorder.take()).toEqual([]);
    for (let i = 1; i <= meshResets; i++) side.receive(frame.headers(next + 2 * i, GET), frame.reset(next + 2 * i, 8));
    expect(side.recorder.error).toBeUndefined();
    side.now += 10_000;
    side.receive(frame.headers(next + 2 * meshResets + 2, GET));
    expect(side.recorder.take()).toHaveLength(1);
  });

  it("a mesh peer's resets at once: a hundred requests reach the application, the rest of that read is refused", () => {
    const side = openServer({ trusted: true, maxConcurrentStreams: 1_000 });
    const rapid = (from: number) =>
      Buffer.concat(
        Array.from({ length: 1_000 }, (_, i) =>
          Buffer.concat([frame.headers(2 * (from + i) + 1, GET), frame.reset(2 * (from + i) + 1, 8)]),
        ),
      );
    side.receive(rapid(0));
    expect(side.recorder.take().filter((event) => event.startsWith("request"))).toHaveLength(100);
    side.receive(rapid(1_000));
    expect(side.recorder.take().filter((event) => event.startsWith("request"))).toHaveLength(100);
    side.receive(frame.headers(4_001, GET));
    expect(side.recorder.take()).toHaveLength(1);
    expect(side.recorder.error).toBeUndefined();
  });

  it("a mesh peer that resets a part of its streams is served", () => {
    const side = openServer({ trusted: true, maxConcurrentStreams: 1_000 });
    side.recorder.react = (event, stream) => {
      if (event.endsWith("end")) side.machine.sendHead(stream as Http2Stream, response(200), true);
    };
    for (let i = 0; i < 8_000; i += 2) {
      side.receive(frame.headers(2 * i + 1, GET));
      side.receive(frame.headers(2 * i + 3, POST, END_HEADERS), frame.reset(2 * i + 3, 8));
    }
    expect(side.recorder.events.filter((event) => event.startsWith("request"))).toHaveLength(8_000);
  });
});

describe("F03: CONTINUATION without end (CVE-2024-27316)", () => {
  it("16 frames are the limit", () => {
    const side = openServer().receive(rawFrame(1, 0, 1, literalBlock(GET)));
    expectLimit(side, DEFAULT_LIMITS.headerFrames - 1, () => frame.continuation(1, Buffer.alloc(0), 0));
  });

  it("64 KiB are the limit, and the frame beyond is not even gathered", () => {
    const side = openServer().receive(rawFrame(1, 0, 1, Buffer.alloc(16_384)));
    for (let i = 0; i < 3; i++) side.receive(frame.continuation(1, Buffer.alloc(16_384), 0));
    expect(side.recorder.error).toBeUndefined();
    side.receive(frame.continuation(1, Buffer.alloc(1), 0).subarray(0, 9));
    expect(side.recorder.error?.code).toBe(CALM);
  });
});

describe("F06: SETTINGS", () => {
  it("50 per second are the limit", () => {
    // The handshake's own was one.
    const side = openServer();
    side.now += 1_000;
    expectLimit(side, DEFAULT_LIMITS.settingsPerSecond, () => frame.settings([4, 100]));
  });

  it("acknowledgements are SETTINGS too", () => {
    const side = openServer();
    side.now += 1_000;
    expectLimit(side, DEFAULT_LIMITS.settingsPerSecond, () => frame.settingsAck());
  });

  it("49 per second for a minute are allowed", () => {
    const side = openServer();
    for (let i = 0; i < 60 * 49; i++) {
      side.now += 1_000 / 49;
      side.receive(frame.settings());
    }
    expect(side.recorder.error).toBeUndefined();
  });

  it("64 entries are the limit of one frame", () => {
    const entries = (count: number) =>
      frame.settings(...Array.from({ length: count }, (): [number, number] => [99, 1]));
    expect(openServer().receive(entries(64)).recorder.error).toBeUndefined();
    expect(openServer().receive(entries(65)).recorder.error?.code).toBe(CALM);
    // 10,000 entries exceed a frame.
    expect(openServer().receive(entries(10_000)).recorder.error?.code).toBe(ErrorCode.frameSizeError);
  });
});

describe("F08: windows that never open", () => {
  it("a hundred streams are served, the rest refused; nothing is kept for them", () => {
    const side = openServer({}, [4, 0]);
    side.recorder.react = (event, stream) => {
      if (!event.startsWith("request") || stream === undefined) return;
      side.machine.sendHead(stream, response(200), false);
      side.machine.sendData(stream, Buffer.alloc(65_536), false);
    };
    for (let i = 0; i < 100; i++) side.receive(frame.headers(2 * i + 1, GET));
    for (let i = 100; i < 300; i++) side.receive(frame.headers(2 * i + 1, GET));
    expect(side.machine.openStreams).toBe(100);
    side.sink.take();
    side.pass(60_000);
    expect(side.machine.openStreams).toBe(0);
  });
});

describe("F10: empty DATA (CVE-2019-9518)", () => {
  it("1,000 in a row are the limit", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS));
    expectLimit(side, DEFAULT_LIMITS.emptyData, () => frame.data(1, ""));
  });

  it("data between them begins the count anew", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS));
    for (let i = 0; i < 10_000; i++) side.receive(frame.data(1, i % 900 === 0 ? "x" : ""));
    expect(side.recorder.error).toBeUndefined();
  });

  it("padding alone is no data, but moves the window", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS));
    expectLimit(side, DEFAULT_LIMITS.emptyData, () => rawFrame(0, 8, 1, [0]));
  });
});

describe("PING (CVE-2019-9512)", () => {
  it("1,000 without anything between them are the limit", () => {
    expectLimit(openServer(), DEFAULT_LIMITS.pings, () => frame.ping());
  });

  it("PINGs beside data measure something", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS));
    for (let i = 0; i < 5_000; i++) side.receive(frame.data(1, "x"), frame.ping());
    expect(side.recorder.error).toBeUndefined();
  });
});

describe("F11 and others: frames that move nothing", () => {
  it.each([
    ["PRIORITY on idle streams", (i: number) => frame.priority(2 * i + 5, 0)],
    ["WINDOW_UPDATE", () => frame.windowUpdate(0, 1)],
    ["WINDOW_UPDATE on a closed stream", () => frame.windowUpdate(1, 1)],
    ["RST_STREAM on a closed stream", () => frame.reset(1, 8)],
    ["unknown frames", () => rawFrame(0x77, 0, 0)],
    ["GOAWAY", () => frame.goaway(0, 0)],
    ["DATA on a stream that was reset", () => frame.data(1, "")],
    ["PING answers", () => frame.ping("12345678", 1)],
  ])("%s: 10,000 per period are the limit", (_name, attack) => {
    const side = openServer({ limits: { idleFrames: 500, emptyData: 100_000 } }).receive(
      frame.headers(1, GET),
      frame.reset(1, 8),
    );
    for (let i = 0; i < 1_600 && side.recorder.error === undefined; i++) side.receive(attack(i));
    expect(side.recorder.error?.code).toBe(CALM);
  });

  it("200,000 PRIORITY frames leave no state and end the connection", () => {
    const side = openServer();
    const chunk = Buffer.concat(Array.from({ length: 20_000 }, (_, i) => frame.priority(2 * i + 1, 0)));
    // Of this process, not of the wall: others may have the cores.
    const start = process.cpuUsage();
    side.receive(chunk);
    expect(side.recorder.error?.code).toBe(CALM);
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1_000).toBeLessThan(200);
  });

  it("a window that opens octet by octet is a flood (CVE-2019-9511)", () => {
    const side = openServer({}, [4, 0]).receive(frame.headers(1, GET));
    const stream = side.recorder.streams.get(1) as Http2Stream;
    side.machine.sendHead(stream, response(200), false);
    side.machine.sendData(stream, Buffer.alloc(65_536), false);
    expectLimit(side, DEFAULT_LIMITS.idleFrames, () => frame.windowUpdate(1, 1));
  });

  it("a download's WINDOW_UPDATEs are work, not noise", () => {
    const side = openServer({ limits: { idleFrames: 100 } }).receive(frame.headers(1, GET));
    const stream = side.recorder.streams.get(1) as Http2Stream;
    side.machine.sendHead(stream, response(200), false);
    side.recorder.react = (event) => {
      if (event === "writable 1") side.machine.sendData(stream, Buffer.alloc(70_000), false);
    };
    side.machine.sendData(stream, Buffer.alloc(70_000), false);
    for (let i = 0; i < 1_000; i++) side.receive(frame.windowUpdate(0, 16_384), frame.windowUpdate(1, 16_384));
    expect(side.recorder.error).toBeUndefined();
  });
});

describe("F14: GOAWAY, then resets (CVE-2023-35945)", () => {
  it("streams end as ever", () => {
    const side = openServer();
    for (let i = 0; i < 100; i++) side.receive(frame.headers(2 * i + 1, GET));
    side.receive(frame.goaway(0, 0));
    for (let i = 0; i < 10_000; i++) side.receive(frame.reset(2 * (i % 100) + 1, 8));
    expect(side.machine.openStreams).toBe(0);
  });
});

describe("F15: table size thrash", () => {
  it("SETTINGS_HEADER_TABLE_SIZE of 4 GiB changes nothing, 0 and back works", () => {
    const side = openServer({ headerTableBytes: 65_536 });
    for (let i = 0; i < 20; i++) {
      side.receive(frame.settings([1, i % 2 === 0 ? 0xffff_ffff : 0]));
      side.receive(frame.headers(2 * i + 1, GET));
      side.machine.sendHead(side.recorder.streams.get(2 * i + 1) as Http2Stream, response(200, [["x-a", "1"]]), true);
    }
    expect(side.recorder.error).toBeUndefined();
  });

  it("size updates within a block are bounded", () => {
    const side = openServer().receive(
      rawFrame(1, END_HEADERS | END_STREAM, 1, Buffer.from([0x20, 0x3f, 0xe1, 0x1f, 0x20, 0x82])),
    );
    expect(side.recorder.error?.code).toBe(ErrorCode.compressionError);
  });
});

describe("header lists", () => {
  it("a block of references to one large entry is counted and not kept (HPACK bomb)", () => {
    const large = literalBlock([["x", "v".repeat(4_000)]]);
    large[0] = 0x40;
    const side = openServer().receive(
      rawFrame(1, END_HEADERS | END_STREAM, 1, Buffer.concat([large, Buffer.alloc(12_000, 0xbe)])),
    );
    expect(side.frames()).toEqual(["HEADERS 1 end", "RST_STREAM 1 0"]);
    expect(side.recorder.events).toEqual([]);
  });

  it("10,000 fields are as many too many", () => {
    const side = openServer().receive(rawFrame(1, END_HEADERS | END_STREAM, 1, Buffer.alloc(10_000, 0x90)));
    expect(side.frames()).toEqual(["HEADERS 1 end", "RST_STREAM 1 0"]);
  });
});

describe("answers that nobody reads (CVE-2019-9512, CVE-2019-9515)", () => {
  const { unreadAnswers } = DEFAULT_LIMITS;
  // Data beside each, so that no other limit is reached.
  const ask = Buffer.concat([frame.data(1, "x"), frame.ping()]);
  const open = () => openServer({ streamWindowBytes: 1 << 20 }).receive(frame.headers(1, POST, END_HEADERS));

  it("10,000 are the limit while the socket is full", () => {
    const side = open();
    side.sink.pendingBytes = 1 << 20;
    for (let i = 0; i <= unreadAnswers; i++) side.receive(ask);
    expect(side.recorder.error).toBeUndefined();
    side.receive(ask);
    expect(side.recorder.error?.code).toBe(CALM);
  });

  it("a peer that reads may ask for as many as it likes", () => {
    const side = open();
    for (let i = 0; i < 2 * unreadAnswers; i++) {
      side.sink.pendingBytes = i % 9_000 === 0 ? 262_144 : 262_145;
      side.receive(ask);
    }
    expect(side.recorder.error).toBeUndefined();
  });

  it("heads count as well: requests that are refused at once", () => {
    const side = openServer({ limits: { earlyResets: 1e9, resets: 1e9 } });
    side.sink.pendingBytes = 1 << 20;
    side.recorder.react = (event, stream) => {
      if (event.startsWith("request")) side.machine.sendHead(stream as Http2Stream, response(403), true);
    };
    for (let i = 0; i < unreadAnswers + 2; i++) side.receive(frame.headers(2 * i + 1, GET));
    expect(side.recorder.error?.code).toBe(CALM);
  });
});
