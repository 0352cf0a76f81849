import { expect, test } from "vitest";
import { countControls } from "../../../../../src/proxy/wire/http1/controls.ts";

test("counts what it should, at every value, place and alignment", () => {
  for (let byte = 0; byte < 256; byte++) {
    for (let at = 0; at < 9; at++) {
      const bytes = Buffer.alloc(12, 0x41).subarray(at % 3);
      bytes[at] = byte;
      const wanted = at < bytes.length && (byte < 0x20 || byte === 0x7f) ? 1 : 0;
      expect(countControls(bytes, 0, bytes.length), `0x${byte.toString(16)} at ${at}`).toBe(wanted);
    }
  }
});

test("neighbours do not disturb each other", () => {
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  expect(countControls(all, 0, 256)).toBe(33);
  expect(countControls(Buffer.from(all).reverse(), 0, 256)).toBe(33);
  expect(countControls(Buffer.alloc(64, 0x7f), 1, 63)).toBe(62);
  expect(countControls(Buffer.alloc(64, 0xff), 0, 64)).toBe(0);
});

test("long runs are counted block by block", () => {
  const long = Buffer.alloc(10_001, "a\r\n");
  expect(countControls(long, 0, long.length)).toBe([...long].filter((byte) => byte < 0x20).length);
  expect(countControls(long, 5, 5)).toBe(0);
});
