import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Stream, PREFACE } from "../../../../../src/proxy/wire/http2/index.ts";
import {
  END_HEADERS,
  END_STREAM,
  frame,
  GET,
  openServer,
  POST,
  response,
  serverSide,
} from "../../../../support/http2.ts";

type Server = ReturnType<typeof openServer>;

const OPEN = frame.headers(1, POST, END_HEADERS);

function stream(side: Server, id: number): Http2Stream {
  return side.recorder.streams.get(id) as Http2Stream;
}

/** Opens streams with their response heads sent. */
function respond(side: Server, count: number): Http2Stream[] {
  const streams: Http2Stream[] = [];
  for (let i = 0; i < count; i++) {
    side.receive(frame.headers(2 * i + 1, GET));
    streams.push(stream(side, 2 * i + 1));
    side.machine.sendHead(stream(side, 2 * i + 1), response(200), false);
  }
  side.sink.take();
  return streams;
}

describe("receiving (RFC 9113 §5.2, §6.9)", () => {
  it("the stream's window is enforced to the octet", () => {
    const side = openServer().receive(OPEN);
    side.recorder.credits = false;
    for (let i = 0; i < 3; i++) side.receive(frame.data(1, Buffer.alloc(16_384)));
    side.receive(frame.data(1, Buffer.alloc(65_535 - 3 * 16_384)));
    expect(side.frames()).toEqual([]);
    side.receive(frame.data(1, "x"));
    expect(side.frames()).toContain(`RST_STREAM 1 ${ErrorCode.flowControlError}`);
    expect(side.recorder.error).toBeUndefined();
  });

  it("the connection's window is enforced to the octet", () => {
    const side = openServer({ connectionWindowBytes: 100_000 });
    side.recorder.credits = false;
    side.receive(OPEN, frame.headers(3, POST, END_HEADERS));
    for (let i = 0; i < 6; i++) side.receive(frame.data(1 + 2 * (i % 2), Buffer.alloc(16_384)));
    side.receive(frame.data(1, Buffer.alloc(100_000 - 6 * 16_384)));
    expect(side.recorder.error).toBeUndefined();
    side.receive(frame.data(1, "x"));
    expect(side.recorder.error?.code).toBe(ErrorCode.flowControlError);
  });

  it("credit is given back at half the window, once for much", () => {
    const side = openServer().receive(OPEN);
    side.recorder.credits = false;
    side.receive(frame.data(1, Buffer.alloc(16_384)), frame.data(1, Buffer.alloc(16_384)));
    side.machine.credit(stream(side, 1), 32_766);
    expect(side.frames()).toEqual([]);
    side.machine.credit(stream(side, 1), 2);
    expect(side.frames()).toEqual(["WINDOW_UPDATE 1 +32768"]);
  });

  it("a first window of its own is opened to the usual one once something was passed on", () => {
    const side = serverSide({ firstWindowBytes: 16_384 });
    expect(side.frames()[0]).toBe("SETTINGS 0");
    side.recorder.credits = false;
    side.receive(PREFACE, frame.settings(), frame.settingsAck(), OPEN, frame.headers(3, POST, END_HEADERS));
    side.sink.take();
    side.receive(frame.data(1, Buffer.alloc(16_384)), frame.data(3, Buffer.alloc(8_000)));
    // What costs no frame opens nothing yet.
    side.machine.credit(stream(side, 3), 8_000);
    expect(side.frames()).toEqual([]);
    side.machine.credit(stream(side, 1), 16_384);
    expect(side.frames()).toEqual([`WINDOW_UPDATE 1 +${16_384 + 65_535 - 16_384}`]);
    for (let i = 0; i < 3; i++) side.receive(frame.data(1, Buffer.alloc(16_384)));
    side.receive(frame.data(1, Buffer.alloc(65_535 - 3 * 16_384)));
    expect(side.frames()).toEqual([]);
    side.receive(frame.data(1, "x"), frame.data(3, Buffer.alloc(8_385)));
    expect(side.frames().filter((line) => line.startsWith("RST_STREAM"))).toEqual([
      `RST_STREAM 1 ${ErrorCode.flowControlError}`,
      `RST_STREAM 3 ${ErrorCode.flowControlError}`,
    ]);
  });

  it("a first window holds for streams that were open before it was agreed on", () => {
    const side = serverSide({ firstWindowBytes: 16_384 });
    side.recorder.credits = false;
    side.receive(
      PREFACE,
      frame.settings(),
      OPEN,
      frame.data(1, Buffer.alloc(16_384)),
      frame.data(1, Buffer.alloc(8_616)),
    );
    side.receive(frame.settingsAck());
    side.sink.take();
    // 65,535 - 25,000 of the peer's are now 16,384 - 25,000.
    side.machine.credit(stream(side, 1), 25_000);
    expect(side.frames()).toEqual([`WINDOW_UPDATE 1 +${25_000 + 65_535 - 16_384}`]);
    expect(stream(side, 1).receiveWindow.available).toBe(65_535);
  });

  it("no more is credited than was received", () => {
    const side = openServer().receive(OPEN, frame.data(1, "hello"));
    side.recorder.credits = false;
    side.machine.credit(stream(side, 1), 1_000_000);
    expect(side.frames()).toEqual([]);
    expect(side.recorder.error).toBeUndefined();
  });

  it("a stream that ended needs no window any more, the connection does", () => {
    const side = openServer({ connectionWindowBytes: 65_535 }).receive(OPEN);
    side.recorder.credits = false;
    for (let i = 0; i < 2; i++) side.receive(frame.data(1, Buffer.alloc(16_384)));
    side.receive(frame.data(1, "x", END_STREAM));
    side.machine.credit(stream(side, 1), 32_769);
    expect(side.frames()).toEqual(["WINDOW_UPDATE 0 +32769"]);
  });

  it("what a closed stream still holds goes back to the connection", () => {
    const side = openServer({ connectionWindowBytes: 65_535 }).receive(OPEN);
    side.recorder.credits = false;
    for (let i = 0; i < 3; i++) side.receive(frame.data(1, Buffer.alloc(16_384)));
    side.machine.reset(stream(side, 1), ErrorCode.cancel);
    expect(side.frames()).toEqual(["RST_STREAM 1 8", "WINDOW_UPDATE 0 +49152"]);
  });

  it("a smaller stream window binds once it is acknowledged (§6.9.2)", () => {
    const side = openServer({ streamWindowBytes: 1_000 });
    side.recorder.credits = false;
    side.receive(OPEN, frame.data(1, Buffer.alloc(1_000)));
    expect(side.frames()).toEqual([]);
    side.receive(frame.data(1, "x"));
    expect(side.frames()).toContain(`RST_STREAM 1 ${ErrorCode.flowControlError}`);
  });
});

describe("sending (RFC 9113 §6.9.1, §6.9.2)", () => {
  it("an initial window of 1 lets one octet through", () => {
    const side = openServer({}, [4, 1]);
    const [first] = respond(side, 1) as [Http2Stream];
    expect(side.machine.sendData(first, Buffer.from("hello"), true)).toBe(false);
    expect(side.frames()).toEqual(["DATA 1 [1]"]);
    side.receive(frame.windowUpdate(1, 3));
    expect(side.frames()).toEqual(["DATA 1 [3]"]);
    expect(side.recorder.take().at(-1)).not.toBe("writable 1");
    side.receive(frame.windowUpdate(1, 1));
    expect(side.frames()).toEqual(["DATA 1 [1] end"]);
    expect(side.recorder.take().at(-1)).toBe("writable 1");
    expect(side.machine.openStreams).toBe(0);
  });

  it("the initial window may change while data waits, also below zero", () => {
    const side = openServer({}, [4, 3]);
    const [first] = respond(side, 1) as [Http2Stream];
    side.machine.sendData(first, Buffer.from("hello"), true);
    expect(side.frames()).toEqual(["DATA 1 [3]"]);
    side.receive(frame.settings([4, 2]));
    side.receive(frame.windowUpdate(1, 1));
    expect(side.frames()).toEqual(["SETTINGS 0 ack"]);
    side.receive(frame.settings([4, 3]));
    expect(side.frames()).toEqual(["SETTINGS 0 ack", "DATA 1 [1]"]);
    side.receive(frame.windowUpdate(1, 9));
    expect(side.frames()).toEqual(["DATA 1 [1] end"]);
  });

  it("an initial window that makes a stream's too large costs the connection", () => {
    const side = openServer();
    respond(side, 1);
    side.receive(frame.windowUpdate(1, 0x7fff_ffff - 65_535), frame.settings([4, 65_536]));
    expect(side.recorder.error?.code).toBe(ErrorCode.flowControlError);
  });

  it("END_STREAM alone needs no window", () => {
    const side = openServer({}, [4, 0]);
    const [first] = respond(side, 1) as [Http2Stream];
    expect(side.machine.sendData(first, Buffer.alloc(0), true)).toBe(true);
    expect(side.frames()).toEqual(["DATA 1 [0] end"]);
  });

  it("END_STREAM waits behind data", () => {
    const side = openServer({}, [4, 0]);
    const [first] = respond(side, 1) as [Http2Stream];
    expect(side.machine.sendData(first, Buffer.from("ab"), false)).toBe(false);
    expect(side.machine.sendData(first, Buffer.from("cd"), false)).toBe(false);
    expect(side.machine.sendData(first, Buffer.alloc(0), true)).toBe(false);
    side.receive(frame.windowUpdate(1, 100));
    expect(side.frames()).toEqual(["DATA 1 [4] end"]);
  });

  it("streams that wait for the connection take turns of one frame", () => {
    const side = openServer({}, [4, 1_000_000]);
    const streams = respond(side, 3);
    side.machine.sendData(streams[0] as Http2Stream, Buffer.alloc(65_535), false);
    for (const each of streams) side.machine.sendData(each, Buffer.alloc(40_000), true);
    side.frames();
    side.receive(frame.windowUpdate(0, 16_384 * 4));
    expect(side.frames()).toEqual(["DATA 1 [16384]", "DATA 3 [16384]", "DATA 5 [16384]", "DATA 1 [16384]"]);
    side.receive(frame.windowUpdate(0, 1_000_000));
    expect(side.frames()).toEqual([
      "DATA 3 [16384]",
      "DATA 5 [16384]",
      "DATA 1 [7232] end",
      "DATA 3 [7232] end",
      "DATA 5 [7232] end",
    ]);
  });

  it("a stream whose own window is closed does not hold up the others", () => {
    const side = openServer({}, [4, 100]);
    const [first, second] = respond(side, 2) as [Http2Stream, Http2Stream];
    side.machine.sendData(first, Buffer.alloc(200), true);
    expect(side.machine.sendData(second, Buffer.alloc(100), true)).toBe(true);
    expect(side.frames()).toEqual(["DATA 1 [100]", "DATA 3 [100] end"]);
  });

  it("frames are no larger than the peer's SETTINGS_MAX_FRAME_SIZE and ours", () => {
    const side = openServer({}, [5, 1_000_000]);
    const [first] = respond(side, 1) as [Http2Stream];
    side.machine.sendData(first, Buffer.alloc(20_000), true);
    expect(side.frames()).toEqual(["DATA 1 [16384]", "DATA 1 [3616] end"]);
  });

  it("more may be said from within onWritable", () => {
    const side = openServer({}, [4, 10]);
    const [first] = respond(side, 1) as [Http2Stream];
    let left = 5;
    side.recorder.react = (event) => {
      if (event === "writable 1") side.machine.sendData(first, Buffer.alloc(30), --left === 0);
    };
    side.machine.sendData(first, Buffer.alloc(30), false);
    side.receive(frame.windowUpdate(1, 1_000));
    expect(side.machine.openStreams).toBe(1);
    let sent = 0;
    for (const line of side.frames()) sent += Number(/\[(\d+)\]/.exec(line)?.[1]);
    expect(sent).toBe(60);
  });

  it("a window that never opens costs the stream after a minute, not the connection (F08)", () => {
    const side = openServer({}, [4, 0]).pass(500_000);
    const streams = respond(side, 3);
    side.pass(500_000);
    side.machine.sendData(streams[0] as Http2Stream, Buffer.alloc(64), true);
    side.pass(30_000);
    side.machine.sendData(streams[1] as Http2Stream, Buffer.alloc(64), true);
    side.pass(29_999);
    expect(side.frames()).toEqual([]);
    side.pass(1);
    expect(side.frames()).toEqual(["RST_STREAM 1 8"]);
    expect(side.recorder.take().at(-1)).toBe("reset 1 8 local");
    side.receive(frame.windowUpdate(3, 10)).pass(59_999);
    expect(side.frames()).toEqual(["DATA 3 [10]"]);
    side.pass(1);
    expect(side.frames()).toEqual(["RST_STREAM 3 8"]);
    expect(side.machine.openStreams).toBe(1);
    expect(side.machine.timeoutAt()).toBeUndefined();
  });

  it("a mesh peer's consumer may pause as long as it likes", () => {
    const side = openServer({ trusted: true }, [4, 0]);
    const [first] = respond(side, 1) as [Http2Stream];
    side.machine.sendData(first, Buffer.alloc(64), true);
    side.pass(10_000_000);
    expect(side.machine.openStreams).toBe(1);
  });

  it("1,000 streams that wait cost nothing per WINDOW_UPDATE of another", () => {
    const side = openServer({ maxConcurrentStreams: 1000 }, [4, 0]);
    const streams = respond(side, 1000);
    for (const each of streams) side.machine.sendData(each, Buffer.alloc(100), true);
    const updates = Buffer.concat(Array.from({ length: 5_000 }, () => frame.windowUpdate(0, 1)));
    const start = performance.now();
    side.receive(updates);
    expect(performance.now() - start).toBeLessThan(200);
    side.receive(frame.windowUpdate(0, 100_000), frame.settings([4, 100]));
    expect(side.machine.openStreams).toBe(0);
  });
});

describe("content that cannot be passed on", () => {
  const chunk = Buffer.alloc(16_384);

  it("stops its stream and not the connection, up to a bound", () => {
    const side = openServer({ maxConcurrentStreams: 1_000, limits: { heldBytes: 2 * 65_535 } });
    side.recorder.credits = false;
    for (const id of [1, 3, 5]) {
      side.receive(frame.headers(id, POST, END_HEADERS));
      for (let i = 0; i < 3; i++) side.receive(frame.data(id, chunk));
      side.receive(frame.data(id, chunk.subarray(1)));
      side.machine.hold(side.recorder.streams.get(id) as Http2Stream, 65_535);
    }
    // Two were held in full and given back to the connection, the third is beyond the bound.
    expect(side.frames().filter((line) => line.startsWith("WINDOW_UPDATE"))).toEqual([]);
    for (const id of [1, 3, 5]) side.machine.credit(side.recorder.streams.get(id) as Http2Stream, 65_535);
    expect(side.frames()).toEqual(["WINDOW_UPDATE 1 +65535", "WINDOW_UPDATE 3 +65535", "WINDOW_UPDATE 5 +65535"]);
  });

  it("does not exhaust the connection's window, however many streams stand still", () => {
    const side = openServer({ maxConcurrentStreams: 1_000, trusted: true });
    side.recorder.credits = false;
    for (let id = 1; id < 201; id += 2) {
      side.receive(frame.headers(id, POST, END_HEADERS));
      for (let i = 0; i < 3; i++) {
        side.receive(frame.data(id, chunk));
        side.machine.hold(side.recorder.streams.get(id) as Http2Stream, chunk.length);
      }
    }
    expect(side.recorder.error).toBeUndefined();
    side.receive(frame.reset(1, 8), frame.data(3, chunk));
    expect(side.recorder.error).toBeUndefined();
  });
});
