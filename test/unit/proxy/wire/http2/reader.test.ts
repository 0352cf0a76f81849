import { describe, expect, it } from "vitest";
import { type FrameListener, FrameReader, PREFACE } from "../../../../../src/proxy/wire/http2/reader.ts";
import { frame, rawFrame } from "../../../../support/http2.ts";

/** Writes down what a reader says; pieces of one DATA frame are joined. */
class Notes implements FrameListener {
  readonly lines: string[] = [];
  /** Views that are not of the chunk that was read. */
  copies = 0;
  chunk: Buffer | undefined;
  #data = "";
  onFrame(type: number, flags: number, streamId: number, length: number): void {
    this.lines.push(`frame ${type} ${flags} ${streamId} ${length}`);
  }
  onPayload(_type: number, _flags: number, _streamId: number, bytes: Buffer, start: number, end: number): void {
    if (bytes !== this.chunk) this.copies++;
    this.lines.push(`payload ${bytes.toString("latin1", start, end)}`);
  }
  onDataPiece(chunk: Buffer, start: number, end: number, last: boolean): void {
    if (end > start && chunk !== this.chunk) this.copies++;
    this.#data += chunk.toString("latin1", start, end);
    if (!last) return;
    this.lines.push(`data ${this.#data}`);
    this.#data = "";
  }
  onPadding(bytes: number): void {
    this.lines.push(`padding ${bytes}`);
  }
}

function read(chunks: Buffer[], expectPreface = false): Notes {
  const notes = new Notes();
  const reader = new FrameReader(notes, expectPreface);
  for (const chunk of chunks) {
    notes.chunk = chunk;
    reader.read(chunk);
  }
  return notes;
}

const BYTES = Buffer.concat([
  frame.ping("12345678"),
  frame.data(1, "hello", 1),
  rawFrame(0, 8, 1, [2, 0x61, 0x62, 0, 0]),
  rawFrame(0, 8, 1, [2, 0, 0]),
  frame.settingsAck(),
  rawFrame(0x77, 0, 0, Buffer.alloc(30)),
  frame.data(3, ""),
  frame.reset(1, 8),
]);
const LINES = [
  "frame 6 0 0 8",
  "payload 12345678",
  "frame 0 1 1 5",
  "data hello",
  "frame 0 8 1 5",
  "padding 3",
  "data ab",
  "frame 0 8 1 3",
  "padding 3",
  "data ",
  "frame 4 1 0 0",
  "payload ",
  "frame 119 0 0 30",
  "frame 0 0 3 0",
  "data ",
  "frame 3 0 1 4",
  "payload \0\0\0\x08",
];

describe("frames", () => {
  it("in one chunk are read in place", () => {
    const notes = read([BYTES]);
    expect(notes.lines).toEqual(LINES);
    expect(notes.copies).toBe(0);
  });

  it("split in two anywhere are the same", () => {
    for (let at = 1; at < BYTES.length; at++) {
      const notes = read([BYTES.subarray(0, at), BYTES.subarray(at)]);
      expect(notes.lines).toEqual(LINES);
      expect(notes.copies).toBeLessThanOrEqual(1);
    }
  });

  it("octet by octet are the same, behind a preface too", () => {
    const octets = [...Buffer.concat([PREFACE, BYTES])].map((octet) => Buffer.from([octet]));
    expect(read(octets, true).lines).toEqual(LINES);
  });

  it("DATA is passed on as it comes, never gathered", () => {
    const bytes = frame.data(1, Buffer.alloc(16_384, "x"));
    const seen: number[] = [];
    const notes = new Notes();
    notes.onDataPiece = (_chunk, start, end) => seen.push(end - start);
    const reader = new FrameReader(notes, false);
    reader.read(bytes.subarray(0, 100));
    reader.read(bytes.subarray(100, 9_009));
    reader.read(bytes.subarray(9_009));
    expect(seen).toEqual([91, 8_909, 7_384]);
  });

  it("tells whether a frame has begun and not ended", () => {
    const reader = new FrameReader(new Notes(), false);
    const bytes = frame.ping();
    const seen = [...bytes].map((octet) => {
      reader.read(Buffer.from([octet]));
      return reader.isInsideFrame;
    });
    expect(seen).toEqual([...Array.from({ length: 16 }, () => true), false]);
    expect(reader.serial).toBe(1);
    reader.read(frame.data(1, "hello").subarray(0, 12));
    expect(reader.isInsideFrame).toBe(false);
  });
});
