import { describe, expect, it } from "vitest";
import { ByteQueue } from "../../../../src/proxy/core/byte-queue.ts";

const memory = (queue: ByteQueue) => new Set(queue.views.map(({ buffer }) => buffer));
const kept = (queue: ByteQueue) => [...memory(queue)].reduce((sum, { byteLength }) => sum + byteLength, 0);

describe("ByteQueue", () => {
  it("keeps a whole chunk as it is", () => {
    const chunk = Buffer.allocUnsafeSlow(16_384);
    const queue = new ByteQueue();
    queue.push(chunk);
    expect(queue.views).toEqual([chunk]);
    expect(queue.views[0]?.buffer).toBe(chunk.buffer);
  });

  it("65,535 single octets cost few objects and no chunk of theirs", () => {
    const queue = new ByteQueue();
    const content = Buffer.from(Array.from({ length: 65_535 }, (_, i) => i & 0xff));
    for (let i = 0; i < content.length; i++) {
      const chunk = Buffer.allocUnsafeSlow(64);
      chunk[3] = content[i] as number;
      queue.push(chunk.subarray(3, 4));
    }
    expect(Buffer.concat(queue.views).equals(content)).toBe(true);
    expect(queue.views.length).toBe(16);
    expect(kept(queue)).toBe(65_536);
  });

  it("does not keep a large chunk for a small part of it", () => {
    const queue = new ByteQueue();
    for (let i = 0; i < 10; i++) queue.push(Buffer.allocUnsafeSlow(65_536).subarray(0, 4_000));
    expect(kept(queue)).toBe(40_000);
  });

  it("goes on behind what was taken from the front", () => {
    const queue = new ByteQueue();
    queue.push(Buffer.from("abc"));
    expect(queue.views.shift()?.toString()).toBe("abc");
    queue.push(Buffer.from("def"));
    queue.push(Buffer.alloc(5_000, "x"));
    queue.push(Buffer.from("g"));
    expect(Buffer.concat(queue.views).toString()).toBe(`def${"x".repeat(5_000)}g`);
  });
});
