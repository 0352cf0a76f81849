import { describe, expect, it } from "vitest";
import {
  decodeGoawayCode,
  decodeGoawayLastStreamId,
  decodePingKind,
  decodePingSequence,
  decodeRstStream,
  decodeSettingId,
  decodeSettingValue,
  decodeWindowUpdate,
  dependsOnItself,
  encodeData,
  encodeGoaway,
  encodePing,
  encodePingAck,
  encodeRstStream,
  encodeSettings,
  encodeSettingsAck,
  encodeWindowUpdate,
  FRAME_HEADER_BYTES,
  finishHeaders,
  fragmentEnd,
  fragmentStart,
  headersFrameBound,
  readUint31,
  readUint32,
} from "../../../../../src/proxy/wire/http2/frame/index.ts";
import { TestSink } from "../../../../support/sink.ts";

function written(write: (sink: TestSink) => void): Buffer {
  const sink = new TestSink();
  write(sink);
  return sink.take();
}

const hex = (write: (sink: TestSink) => void) => written(write).toString("hex");

describe("frames as RFC 9113 §4.1 and §6 draw them", () => {
  it("§6.1 DATA", () => {
    const view = Buffer.from("_hello_");
    expect(hex((sink) => encodeData(sink, 5, view, 1, 6, true))).toBe("0000050001000000" + "05" + "68656c6c6f");
    expect(hex((sink) => encodeData(sink, 5, view, 7, 7, false))).toBe("000000000000000005");
  });

  it("§6.1 DATA of any size is not changed on the way", () => {
    for (const size of [1023, 1024, 1025, 5_000, 16_384]) {
      const view = Buffer.alloc(size, "d");
      expect(
        written((sink) => encodeData(sink, 1, view, 0, size, false))
          .subarray(9)
          .equals(view),
      ).toBe(true);
    }
  });

  it("§6.4 RST_STREAM", () => {
    const bytes = written((sink) => encodeRstStream(sink, 0x7fff_ffff, 0xffff_fff8));
    expect(bytes.toString("hex")).toBe("00000403007fffffff" + "fffffff8");
    expect(decodeRstStream(bytes, 9)).toBe(0xffff_fff8);
  });

  it("§6.5 SETTINGS", () => {
    const bytes = written((sink) =>
      encodeSettings(sink, [
        [4, 0x7fff_ffff],
        [0xf0f0, 0xffff_ffff],
      ]),
    );
    expect(bytes.toString("hex")).toBe("00000c040000000000" + "00047fffffff" + "f0f0ffffffff");
    expect([decodeSettingId(bytes, 15), decodeSettingValue(bytes, 15)]).toEqual([0xf0f0, 0xffff_ffff]);
    expect(hex(encodeSettingsAck)).toBe("000000040100000000");
  });

  it("§6.7 PING", () => {
    const bytes = written((sink) => encodePing(sink, 0xfedc_ba98, 7));
    expect(bytes.toString("hex")).toBe("000008060000000000" + "fedcba9800000007");
    expect([decodePingKind(bytes, 9), decodePingSequence(bytes, 9)]).toEqual([0xfedc_ba98, 7]);
    expect(hex((sink) => encodePingAck(sink, bytes, 9))).toBe("000008060100000000" + "fedcba9800000007");
  });

  it("§6.8 GOAWAY", () => {
    const bytes = written((sink) => encodeGoaway(sink, 0x7fff_ffff, 11, "why"));
    expect(bytes.toString("hex")).toBe("00000b070000000000" + "7fffffff" + "0000000b" + "776879");
    expect([decodeGoawayLastStreamId(bytes, 9), decodeGoawayCode(bytes, 9)]).toEqual([0x7fff_ffff, 11]);
  });

  it("§6.9 WINDOW_UPDATE, whose reserved bit is ignored", () => {
    const bytes = written((sink) => encodeWindowUpdate(sink, 3, 65_536));
    expect(bytes.toString("hex")).toBe("000004080000000003" + "00010000");
    bytes[9] = 0x80;
    expect(decodeWindowUpdate(bytes, 9)).toBe(65_536);
  });

  it("§6.3 a stream that depends on itself, exclusively or not", () => {
    expect(dependsOnItself(Buffer.from([0x80, 0, 0, 5, 1]), 0, 5)).toBe(true);
    expect(dependsOnItself(Buffer.from([0, 0, 0, 5, 1]), 0, 7)).toBe(false);
  });

  it("integers of four octets", () => {
    const bytes = Buffer.from([0xff, 0, 0, 1]);
    expect(readUint32(bytes, 0)).toBe(0xff00_0001);
    expect(readUint31(bytes, 0)).toBe(0x7f00_0001);
  });
});

describe("§6.2, §6.10: HEADERS and CONTINUATION", () => {
  const fragment = (payload: number[], flags: number): number[] => {
    const bytes = Buffer.from(payload);
    return [...bytes.subarray(fragmentStart(0, flags), fragmentEnd(bytes, 0, bytes.length, flags))];
  };

  it("padding and priority are no part of the block", () => {
    expect(fragment([1, 2, 3], 0)).toEqual([1, 2, 3]);
    expect(fragment([1, 7, 8, 0], 0x8)).toEqual([7, 8]);
    expect(fragment([0, 0, 0, 1, 9, 7], 0x20)).toEqual([7]);
    expect(fragment([2, 0, 0, 0, 1, 9, 7, 0, 0], 0x28)).toEqual([7]);
    expect(fragment([1, 0], 0x8)).toEqual([]);
    expect(() => fragment([2, 0], 0x8)).toThrow("padding");
    expect(() => fragment([], 0x8)).toThrow("too short");
    expect(() => fragment([0, 0, 0, 0], 0x20)).toThrow("too short");
  });

  it.each([0, 1, 9, 10, 11, 19, 20, 21, 30, 100])("a block of %d octets in frames of 10", (length) => {
    const block = Buffer.from(Array.from({ length }, (_, i) => i));
    const bytes = written((sink) => {
      const at = sink.reserve(headersFrameBound(length, 10));
      block.copy(sink.buffer, at + FRAME_HEADER_BYTES);
      finishHeaders(sink, at, at + FRAME_HEADER_BYTES + length, 3, true, 10);
    });
    const parts: Buffer[] = [];
    const kinds: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = bytes.readUIntBE(at, 3);
      kinds.push(`${bytes[at + 3]}:${bytes[at + 4]}:${bytes.readUInt32BE(at + 5)}`);
      parts.push(bytes.subarray(at + 9, at + 9 + size));
      expect(size).toBeLessThanOrEqual(10);
      at += 9 + size;
    }
    expect(Buffer.concat(parts).equals(block)).toBe(true);
    const last = kinds.length - 1;
    expect(kinds).toEqual(kinds.map((_, i) => `${i === 0 ? 1 : 9}:${(i === 0 ? 1 : 0) | (i === last ? 4 : 0)}:3`));
    expect(kinds.length).toBe(Math.max(1, Math.ceil(length / 10)));
  });
});
