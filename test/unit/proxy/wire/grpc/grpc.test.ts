import { describe, expect, test } from "vitest";
import {
  decodeEnvelope,
  decodeGrpcMessage,
  EnvelopeReader,
  encodeEnvelope,
  encodeGrpcMessage,
  formatGrpcTimeout,
  grpcStatusFromHttp,
  grpcStatusName,
  parseGrpcStatus,
  parseGrpcTimeout,
} from "../../../../../src/proxy/wire/grpc/index.ts";

describe("envelope", () => {
  test("there and back", () => {
    const bytes = encodeEnvelope(Buffer.from("hello"), true);
    expect(bytes.toString("hex")).toBe("010000000568656c6c6f");
    expect(decodeEnvelope(bytes)).toEqual({ kind: "done", value: { compressed: true, length: 5 }, consumed: 5 });
    expect(decodeEnvelope(bytes.subarray(0, 4))).toEqual({ kind: "more", atLeast: 5 });
    expect(decodeEnvelope(Buffer.of(2)).kind).toBe("no");
  });

  test("messages are counted, however they are split", () => {
    const stream = Buffer.concat([
      encodeEnvelope(Buffer.from("hello")),
      encodeEnvelope(Buffer.alloc(0)),
      encodeEnvelope(Buffer.alloc(300)),
    ]);
    for (const size of [1, 2, 3, 7, 1000]) {
      const reader = new EnvelopeReader();
      for (let at = 0; at < stream.length; at += size) reader.receive(stream.subarray(at, at + size));
      expect([reader.messages, reader.messageBytes, reader.isAtBoundary, reader.isBroken]).toEqual([
        3,
        305,
        true,
        false,
      ]);
    }
  });

  test("a message that is cut, and bytes that are no messages", () => {
    const cut = new EnvelopeReader();
    cut.receive(encodeEnvelope(Buffer.from("hello")).subarray(0, 8));
    expect([cut.messages, cut.isAtBoundary]).toEqual([0, false]);
    const other = new EnvelopeReader();
    other.receive(Buffer.from("<html>"));
    expect(other.isBroken).toBe(true);
  });

  test("a length of 32 bits is no negative number", () => {
    const reader = new EnvelopeReader();
    reader.receive(Buffer.of(0, 0xff, 0xff, 0xff, 0xff, 1, 2));
    expect([reader.messages, reader.messageBytes, reader.isAtBoundary]).toEqual([0, 2, false]);
  });
});

describe("status", () => {
  test("text to code to name", () => {
    expect([parseGrpcStatus("0"), parseGrpcStatus("16"), parseGrpcStatus("17"), parseGrpcStatus("500")]).toEqual([
      0, 16, 2, 2,
    ]);
    for (const text of ["", "-1", "1.0", " 1", "x", "99999999999"]) expect(parseGrpcStatus(text)).toBeUndefined();
    expect([grpcStatusName(0), grpcStatusName(4), grpcStatusName(99)]).toEqual(["OK", "DEADLINE_EXCEEDED", "UNKNOWN"]);
  });

  test("from HTTP", () => {
    const codes = [400, 401, 403, 404, 429, 502, 503, 504, 500, 200].map(grpcStatusFromHttp);
    expect(codes).toEqual([13, 16, 7, 12, 14, 14, 14, 14, 2, 2]);
  });

  test("messages", () => {
    expect(encodeGrpcMessage("plain text, 100 ~ ok")).toBe("plain text, 100 ~ ok");
    expect(encodeGrpcMessage("100%\r\nü€")).toBe("100%25%0D%0A%C3%BC%E2%82%AC");
    expect(decodeGrpcMessage("100%25%0d%0A%C3%BC%E2%82%AC")).toBe("100%\r\nü€");
    expect(decodeGrpcMessage("50% off, %zz, %4")).toBe("50% off, %zz, %4");
  });
});

describe("timeout", () => {
  test.each([
    ["1H", 3_600_000],
    ["2M", 120_000],
    ["3S", 3000],
    ["100m", 100],
    ["250u", 0.25],
    ["0n", 0],
    ["99999999m", 99_999_999],
  ])("%s", (text, ms) => expect(parseGrpcTimeout(text)).toBeCloseTo(ms, 9));

  test.each(["", "1", "m", "-1m", "1.5S", "100000000m", "1s", " 1S"])("%j is none", (text) => {
    expect(parseGrpcTimeout(text)).toBeUndefined();
  });

  test("formats in the finest unit that holds it", () => {
    expect([0, 1, 99, 1000, 120_000, 200_000_000].map(formatGrpcTimeout)).toEqual([
      "0n",
      "1000000n",
      "99000000n",
      "1000000u",
      "120000m",
      "200000S",
    ]);
    expect(formatGrpcTimeout(-5)).toBe("0n");
    expect(formatGrpcTimeout(1e15)).toBe("99999999H");
  });
});
