import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Stream } from "../../../../../src/proxy/wire/http2/index.ts";
import { END_HEADERS, END_STREAM, frame, openServer, POST, rawFrame } from "../../../../support/http2.ts";

const open = (...ids: number[]) => {
  const side = openServer();
  side.receive(...ids.map((id) => frame.headers(id, POST, END_HEADERS)));
  side.recorder.take();
  return side;
};
const bytes = (count: number, id: number) =>
  Array.from({ length: count }, (_, i) => frame.data(id, Buffer.of((id + i) & 0xff)));
const expected = (count: number, id: number) => Buffer.from(Array.from({ length: count }, (_, i) => (id + i) & 0xff));

describe("content that comes in small pieces", () => {
  it("goes on together, whatever stands between the pieces, and whole", () => {
    const side = open(1, 3);
    const [one, three] = [bytes(3_000, 1), bytes(3_000, 3)];
    side.receive(...one.flatMap((data, i) => [data, frame.ping(), three[i] as Buffer]));
    for (const id of [1, 3]) {
      expect(side.recorder.content(id)).toEqual(expected(3_000, id));
      // The first at once, the others in one.
      expect(side.recorder.pieces(id)).toBe(2);
    }
  });

  it("goes on at once where a read brings one of them", () => {
    const side = open(1);
    for (const data of bytes(5, 1)) side.receive(data);
    expect(side.recorder.pieces(1)).toBe(5);
  });

  it("is no more than 4 KiB at a time", () => {
    const side = open(1);
    side.receive(...bytes(10_000, 1));
    expect(side.recorder.content(1)).toEqual(expected(10_000, 1));
    expect(side.recorder.pieces(1)).toBe(4);
  });

  it("stays before what is large", () => {
    const side = open(1);
    side.receive(frame.data(1, "a"), frame.data(1, "b"), frame.data(1, "c".repeat(5_000)), frame.data(1, "d"));
    expect(String(side.recorder.content(1))).toBe(`ab${"c".repeat(5_000)}d`);
  });

  it.each<[string, Buffer, string]>([
    ["END_STREAM", frame.data(1, "", END_STREAM), "data-end 1 3"],
    ["END_STREAM with content", frame.data(1, "d", END_STREAM), "data-end 1 4"],
    ["trailers", frame.headers(1, [["x", "y"]]), 'trailers 1 [["x","y"]]'],
    ["the peer's reset", frame.reset(1, ErrorCode.cancel), "reset 1 8 remote"],
    ["an error of the stream", frame.windowUpdate(1, 0), "reset 1 1 local"],
    ["an error of the connection", rawFrame(0, 0, 0, []), "reset 1 1 local"],
  ])("is there before %s", (_what, last, event) => {
    const side = open(1);
    let before = 0;
    side.recorder.react = () => {
      before = side.recorder.content(1).length;
    };
    side.receive(frame.data(1, "a"), frame.data(1, "b"), frame.data(1, "c"), last);
    expect(side.recorder.events[0]).toBe(event);
    expect(before).toBe(event === "data-end 1 4" ? 4 : 3);
  });

  it("is dropped with a stream that the driver resets, and the connection's window given back", () => {
    const side = open(1);
    side.recorder.credits = false;
    side.receive(frame.data(1, "a"));
    const stream = side.recorder.streams.get(1) as Http2Stream;
    side.recorder.react = (event) => {
      if (event.startsWith("request 3")) side.machine.reset(stream, ErrorCode.cancel);
    };
    side.receive(...bytes(3, 1), frame.headers(3, POST), ...bytes(3, 1));
    expect(side.recorder.pieces(1)).toBe(2);
    expect(stream.gathered).toBeUndefined();
    expect(stream.uncreditedBytes).toBe(0);
  });

  it("does not delay a stream that the driver resets while it takes the first piece", () => {
    const side = open(1);
    const stream = side.recorder.streams.get(1) as Http2Stream;
    side.recorder.onData = () => side.machine.reset(stream, ErrorCode.cancel);
    side.receive(frame.data(1, "a"), frame.data(1, "b"), frame.data(1, "c"));
    expect(side.frames().filter((line) => line.startsWith("RST_STREAM"))).toEqual(["RST_STREAM 1 8"]);
  });
});
