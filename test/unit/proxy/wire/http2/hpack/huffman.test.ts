import { describe, expect, it } from "vitest";
import {
  decodeHuffman,
  encodeHuffman,
  huffmanDecodedBound,
  huffmanLength,
} from "../../../../../../src/proxy/wire/http2/hpack/huffman.ts";

function encode(text: string): Buffer {
  const buffer = Buffer.alloc(text.length * 4 + 1);
  return buffer.subarray(0, encodeHuffman(text, buffer, 0));
}

function decode(bytes: Buffer): string | undefined {
  const out = Buffer.alloc(huffmanDecodedBound(bytes.length));
  const length = decodeHuffman(bytes, 0, bytes.length, out);
  return length < 0 ? undefined : out.toString("latin1", 0, length);
}

describe("RFC 7541 §5.2 and appendix B", () => {
  it.each([
    ["www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"],
    ["no-cache", "a8eb10649cbf"],
    ["custom-value", "25a849e95bb8e8b4bf"],
    ["Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"],
    ["", ""],
  ])("%s", (text, hex) => {
    expect(encode(text).toString("hex")).toBe(hex);
    expect(huffmanLength(text)).toBe(hex.length / 2);
    expect(decode(Buffer.from(hex, "hex"))).toBe(text);
  });

  it("carries every octet, alone and between others", () => {
    for (let octet = 0; octet < 256; octet++) {
      const char = String.fromCharCode(octet);
      for (const text of [char, `a${char}b`, char.repeat(9)]) {
        expect(decode(encode(text))).toBe(text);
        expect(encode(text).length).toBe(huffmanLength(text));
      }
    }
  });

  it.each([
    ["padding of eleven bits", "1fff"],
    ["padding with zeros", "18"],
    ["a padding that is no prefix of EOS", "1e"],
    ["EOS", "ffffffff"],
    ["EOS inside", "fffffffcffff"],
  ])("refuses %s", (_name, hex) => {
    expect(decode(Buffer.from(hex, "hex"))).toBeUndefined();
  });

  it("takes any padding of one to seven ones", () => {
    // 'a' is 00011: three bits of padding.
    expect(decode(Buffer.from("1f", "hex"))).toBe("a");
  });
});
