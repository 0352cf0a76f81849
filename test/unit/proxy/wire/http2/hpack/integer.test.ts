import { describe, expect, it } from "vitest";
import { decodeIntegerRest, encodeInteger, integerEnd } from "../../../../../../src/proxy/wire/http2/hpack/integer.ts";

function encode(high: number, mask: number, value: number): number[] {
  const buffer = Buffer.alloc(8);
  return [...buffer.subarray(0, encodeInteger(buffer, 0, high, mask, value))];
}

describe("RFC 7541 §5.1, appendix C.1", () => {
  it("C.1.1: 10 in a 5-bit prefix", () => expect(encode(0, 31, 10)).toEqual([10]));
  it("C.1.2: 1337 in a 5-bit prefix", () => expect(encode(0, 31, 1337)).toEqual([31, 154, 10]));
  it("C.1.3: 42 at an octet boundary", () => expect(encode(0, 255, 42)).toEqual([42]));
  it("keeps the bits before the prefix", () => expect(encode(0x80, 127, 127)).toEqual([0xff, 0]));

  it("reads what it wrote, up to 28 bits behind the prefix", () => {
    for (const rest of [0, 1, 127, 128, 16_383, 16_384, 2 ** 28 - 1]) {
      const bytes = Buffer.from(encode(0, 31, 31 + rest));
      expect(decodeIntegerRest(bytes, 1, bytes.length)).toBe(rest);
      expect(integerEnd(bytes, 1)).toBe(bytes.length);
    }
  });

  it("tells a short one from a large one", () => {
    expect(decodeIntegerRest(Buffer.from([0x80, 0x80]), 0, 2)).toBe(-1);
    expect(decodeIntegerRest(Buffer.from([0x80, 0x80, 0x80, 0x80, 0x01]), 0, 5)).toBe(-2);
    expect(decodeIntegerRest(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 0, 6)).toBe(-2);
  });
});
