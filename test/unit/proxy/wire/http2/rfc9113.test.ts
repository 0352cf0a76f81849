import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Stream, PREFACE } from "../../../../../src/proxy/wire/http2/index.ts";
import {
  clientSide,
  END_HEADERS,
  exchange,
  frame,
  GET,
  literalBlock,
  OK,
  openClient,
  openServer,
  POST,
  rawFrame,
  request,
  response,
  serverSide,
} from "../../../../support/http2.ts";

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly word: number;
  readonly payload: Buffer;
}

function cut(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = bytes.indexOf(PREFACE) === 0 ? PREFACE.length : 0; at < bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    const payload = bytes.subarray(at + 9, at + 9 + length);
    frames.push({
      type: bytes[at + 3] as number,
      flags: bytes[at + 4] as number,
      word: bytes.readUInt32BE(at + 5),
      payload,
    });
    at += 9 + length;
  }
  return frames;
}

/** Everything that either side writes in a conversation with content, trailers, resets, PINGs and an end. */
function everything(): Frame[] {
  const written: Buffer[] = [];
  const client = clientSide({ keepAlive: { intervalMs: 1_000, timeoutMs: 1_000, whileIdle: true } });
  const server = serverSide();
  const keep = () => {
    for (const side of [client, server]) {
      const bytes = side.sink.take();
      // Nothing at all would be the end.
      if (bytes.length === 0) continue;
      written.push(bytes);
      (side === client ? server : client).receive(bytes);
    }
  };
  for (let i = 0; i < 3; i++) keep();
  const streams: Http2Stream[] = [];
  for (const method of ["POST", "GET", "POST"]) {
    const stream = client.machine.openStream(undefined) as Http2Stream;
    client.machine.sendRequest(stream, request(method, "/"), method === "GET");
    streams.push(stream);
  }
  client.machine.sendData(streams[0] as Http2Stream, Buffer.alloc(30_000), true);
  for (let i = 0; i < 3; i++) keep();
  client.machine.reset(streams[2] as Http2Stream, ErrorCode.cancel);
  for (const id of [1, 3]) {
    const stream = server.recorder.streams.get(id) as Http2Stream;
    server.machine.sendHead(stream, response(200, [["x", "v".repeat(40_000)]]), false);
    server.machine.sendData(stream, Buffer.alloc(40_000), false);
    server.machine.sendTrailers(stream, response(200, [["grpc-status", "0"]]).headers);
  }
  for (let i = 0; i < 5; i++) keep();
  server.machine.shutdown();
  client.pass(1_500);
  for (let i = 0; i < 3; i++) keep();
  return cut(
    Buffer.concat(
      written
        .filter((bytes) => bytes.length > 0)
        .map((bytes) => bytes.subarray(bytes.indexOf(PREFACE) === 0 ? PREFACE.length : 0)),
    ),
  );
}

describe("what we send", () => {
  const frames = everything();

  it("is all of a conversation", () => {
    expect(new Set(frames.map(({ type }) => type))).toEqual(new Set([0, 1, 3, 4, 6, 7, 8, 9]));
  });

  it("leaves the reserved bit and flags that mean nothing unset", () => {
    const defined: Record<number, number> = { 0: 1, 1: 5, 3: 0, 4: 1, 6: 1, 7: 0, 8: 0, 9: 4 };
    for (const { type, flags, word } of frames) {
      expect(word >>> 31).toBe(0);
      expect(flags & ~(defined[type] as number)).toBe(0);
    }
  });

  it("has no padding, no priority, no push", () => {
    for (const { type, flags } of frames) {
      expect([2, 5]).not.toContain(type);
      if (type <= 1) expect(flags & 0x28).toBe(0);
    }
  });

  it("is SETTINGS without ENABLE_PUSH from a server, with 0 from a client", () => {
    const push = (bytes: Buffer) => {
      const payload = cut(bytes)[0]?.payload as Buffer;
      for (let at = 0; at < payload.length; at += 6)
        if (payload.readUInt16BE(at) === 2) return payload.readUInt32BE(at + 2);
      return undefined;
    };
    expect(push(serverSide().sink.take())).toBeUndefined();
    expect(push(clientSide().sink.take())).toBe(0);
  });

  it("uses odd identifiers that grow, and none twice", () => {
    const opened = new Set<number>();
    let last = 0;
    const client = openClient();
    for (let i = 0; i < 50; i++) {
      const { id } = client.machine.openStream(undefined) as Http2Stream;
      expect(id & 1).toBe(1);
      expect(id).toBeGreaterThan(last);
      last = id;
      opened.add(id);
    }
    expect(opened.size).toBe(50);
  });
});

describe("what is not answered", () => {
  it.each([
    ["a stream that was reset", frame.reset(1, 8)],
    ["a stream that we reset", frame.windowUpdate(1, 0)],
  ])("RST_STREAM on %s", (_name, before) => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS), before);
    side.sink.take();
    side.receive(frame.reset(1, 8));
    expect(side.frames()).toEqual([]);
    expect(side.recorder.error).toBeUndefined();
  });

  it("anything after GOAWAY with an error", () => {
    const side = openServer().receive(frame.data(0, "x"));
    expect(side.frames()).toEqual(["GOAWAY 0 0 1"]);
    side.receive(frame.ping(), frame.headers(1, GET), frame.settings());
    expect(side.frames()).toEqual([]);
    expect(side.recorder.events.at(-1)).toBe("connection-error 1");
  });
});

describe("GOAWAY", () => {
  it("names a stream that never rises again", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS), frame.headers(3, POST, END_HEADERS));
    side.machine.shutdown();
    side.machine.goaway(ErrorCode.noError);
    side.receive(frame.headers(5, GET), frame.data(0, "x"));
    const last = side
      .frames()
      .filter((line) => line.startsWith("GOAWAY"))
      .map((line) => Number(line.split(" ")[2]));
    expect(last).toEqual([0x7fff_ffff, 3, 3]);
  });

  it("streams beyond it still keep tables and windows right", () => {
    const side = openServer({ connectionWindowBytes: 65_535 });
    side.machine.goaway(ErrorCode.noError);
    const indexed = literalBlock([["x-own", "1"]]);
    indexed[0] = 0x40;
    side.receive(
      rawFrame(1, END_HEADERS, 1, Buffer.concat([literalBlock(POST), indexed])),
      frame.data(1, Buffer.alloc(16_384)),
    );
    side.receive(
      frame.data(1, Buffer.alloc(16_384)),
      rawFrame(1, 5, 3, Buffer.concat([literalBlock(GET), Buffer.of(0xbe)])),
    );
    expect(side.recorder.events).toEqual([]);
    expect(side.recorder.error).toBeUndefined();
    expect(side.frames().filter((line) => line.startsWith("WINDOW_UPDATE"))).toEqual(["WINDOW_UPDATE 0 +32768"]);
  });

  it("no stream is opened once it has come", () => {
    const side = openClient().receive(frame.goaway(0, 0));
    expect(side.machine.openStream(undefined)).toBeUndefined();
  });
});

describe("SETTINGS", () => {
  it("values are taken in their order, and acknowledged once they are in force", () => {
    const side = openServer().receive(frame.headers(1, GET));
    side.receive(frame.settings([4, 1], [4, 5], [4, 3]));
    const stream = side.recorder.streams.get(1) as Http2Stream;
    side.machine.sendHead(stream, response(200), false);
    side.machine.sendData(stream, Buffer.alloc(10), true);
    expect(side.frames()).toEqual(["SETTINGS 0 ack", "HEADERS 1", "DATA 1 [3]"]);
  });

  it("every one that is defined has its effect", () => {
    const client = openClient({ maxFrameBytes: 65_536 }, [1, 0], [2, 0], [3, 1], [4, 40_000], [5, 20_000], [8, 1]);
    const stream = client.machine.openStream(undefined) as Http2Stream;
    // One stream, no more.
    expect(client.machine.openStream(undefined)).toBeUndefined();
    client.machine.sendRequest(stream, request("POST", "/", [["x-own", "v".repeat(18_000)]]), false);
    const [first, ...more] = cut(client.sink.take());
    // A table of nothing is told at the head of the block.
    expect(first?.payload[0]).toBe(0x20);
    // So large a head is one frame all the same.
    expect(first?.payload.length).toBeGreaterThan(16_384);
    expect(more).toEqual([]);
    client.machine.sendData(stream, Buffer.alloc(50_000), true);
    const sent = client.frames().map((line) => Number(/^DATA 1 \[(\d+)\]$/.exec(line)?.[1]));
    expect(sent.reduce((sum, bytes) => sum + bytes, 0)).toBe(40_000);
  });

  it("a smaller window of ours is not held against what was sent before its acknowledgement", () => {
    const side = serverSide({ streamWindowBytes: 1_000 }).receive(PREFACE, frame.settings());
    side.recorder.credits = false;
    side.receive(frame.headers(1, POST, END_HEADERS), frame.data(1, Buffer.alloc(16_384)));
    expect(side.recorder.error).toBeUndefined();
    expect(side.recorder.events.some((event) => event.startsWith("reset"))).toBe(false);
  });
});

describe("requests", () => {
  it.each([
    ["no authority, no :authority", request("GET", "/", [], { authority: undefined }), "GET http://-/ []"],
    ["an authority, and no Host beside it", request("GET", "/"), "GET http://a/ []"],
    ["OPTIONS of no path has a path of *", request("OPTIONS", "*", [], { form: "asterisk" }), "OPTIONS http://a* []"],
  ])("%s", (_name, head, told) => {
    const client = openClient();
    client.machine.sendRequest(client.machine.openStream(undefined) as Http2Stream, head, true);
    const server = openServer();
    server.receive(client.sink.take());
    expect(server.recorder.take()).toEqual([`request 1 ${told} end`]);
  });
});

describe("responses", () => {
  it("without :status, also interim ones, are malformed", () => {
    for (const flags of [END_HEADERS, END_HEADERS | 1]) {
      const side = openClient();
      const stream = side.machine.openStream(undefined) as Http2Stream;
      side.machine.sendRequest(stream, request("GET", "/"), true);
      side.sink.take();
      side.receive(frame.headers(1, [["x", "1"]], flags));
      expect(side.frames()).toEqual(["RST_STREAM 1 1"]);
    }
  });

  it("after a request's own reset with NO_ERROR are kept", () => {
    const client = openClient();
    const stream = client.machine.openStream(undefined) as Http2Stream;
    client.machine.sendRequest(stream, request("POST", "/"), false);
    client.receive(frame.headers(1, OK, END_HEADERS), frame.data(1, "all of it", 1), frame.reset(1, 0));
    expect(client.recorder.content(1).toString()).toBe("all of it");
    expect(client.recorder.events.slice(-2)).toEqual(["data-end 1 9", "reset 1 0 remote"]);
  });
});

it("two sides of ours come to rest", () => {
  const client = clientSide();
  const server = serverSide();
  exchange(client, server);
  expect([client.recorder.error, server.recorder.error]).toEqual([undefined, undefined]);
});
