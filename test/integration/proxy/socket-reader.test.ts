import { once } from "node:events";
import type { Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { SocketReader } from "../../../src/proxy/transport/socket-reader.ts";
import { socketPair } from "../../support/socket-pair.ts";

const open: Socket[] = [];

afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

async function pair(): Promise<{ ours: Socket; theirs: Socket }> {
  const both = await socketPair();
  open.push(both.ours, both.theirs);
  return both;
}

/** Resolves as soon as `holds` does; looks once per turn of the event loop. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

describe("SocketReader", () => {
  it("reads a socket of this Node without its stream", async () => {
    const { ours, theirs } = await pair();
    const got: Buffer[] = [];
    let events = 0;
    const reader = SocketReader.attach(ours, (chunk) => got.push(chunk));
    ours.on("data", () => events++);
    ours.resume();
    reader?.resume();
    theirs.write("hello");
    await until(() => got.length > 0);
    theirs.write("world");
    await until(() => got.length > 1);
    expect(reader).toBeDefined();
    expect(got.map(String)).toEqual(["hello", "world"]);
    expect(events).toBe(0);
  });

  it("gives memory of its own, whatever its size: what was given before does not change", async () => {
    const { ours, theirs } = await pair();
    const got: Buffer[] = [];
    const reader = SocketReader.attach(ours, (chunk) => got.push(chunk));
    ours.resume();
    reader?.resume();
    const sent = Buffer.alloc(700_001);
    for (let i = 0; i < sent.length; i++) sent[i] = (i * 31 + (i >> 8)) & 0xff;
    for (let at = 0, size = 1; at < sent.length; at += size, size = (size * 3) % 60_007)
      theirs.write(sent.subarray(at, at + size));
    await until(() => got.reduce((sum, { length }) => sum + length, 0) === sent.length);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
  });

  it("takes from one socket what is its share of a turn, also when more is there", async () => {
    const { ours, theirs } = await pair();
    const bytes = 4 * 1024 * 1024;
    let inTurn = 0;
    let most = 0;
    let all = 0;
    const reader = SocketReader.attach(ours, ({ length }) => {
      inTurn += length;
      all += length;
    });
    ours.resume();
    theirs.write(Buffer.alloc(bytes));
    reader?.resume();
    // Whatever a turn brings is between two of these.
    await until(() => {
      most = Math.max(most, inTurn);
      inTurn = 0;
      return all === bytes;
    });
    expect(most).toBeLessThanOrEqual(128 * 1024);
  });

  it("is paused and given away between its turns like any other", async () => {
    const { ours, theirs } = await pair();
    const bytes = 1024 * 1024;
    let read = 0;
    const reader = SocketReader.attach(ours, ({ length }) => {
      read += length;
      reader?.pause();
      setImmediate(() => reader?.resume());
    });
    ours.on("data", ({ length }: Buffer) => {
      read += length;
    });
    ours.resume();
    theirs.write(Buffer.alloc(bytes));
    reader?.resume();
    await until(() => read > bytes / 4);
    reader?.release();
    await until(() => read === bytes);
  });

  it("gives nothing while paused, and then everything in order with the end behind it", async () => {
    const { ours, theirs } = await pair();
    const told: string[] = [];
    const reader = SocketReader.attach(ours, (chunk) => {
      told.push(String(chunk));
      if (told.length === 1) reader?.pause();
    });
    ours.on("end", () => told.push("(end)"));
    ours.resume();
    reader?.resume();
    theirs.write("first");
    await until(() => told.length === 1);
    theirs.end("second");
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual(["first"]);
    reader?.resume();
    await until(() => told.includes("(end)"));
    expect(told).toEqual(["first", "second", "(end)"]);
  });

  it("gives the socket back: what comes later goes through its stream", async () => {
    const { ours, theirs } = await pair();
    const got: string[] = [];
    const reader = SocketReader.attach(ours, (chunk) => {
      got.push(`reader ${chunk}`);
      ours.pause();
      reader?.release();
    });
    ours.resume();
    reader?.resume();
    theirs.write("one");
    await until(() => got.length === 1);
    ours.on("data", (chunk) => got.push(`stream ${chunk}`));
    ours.resume();
    theirs.end("two");
    await once(ours, "end");
    expect(got).toEqual(["reader one", "stream two"]);
  });

  it("leaves a socket alone in whose stream bytes wait", async () => {
    const { ours, theirs } = await pair();
    ours.unshift(Buffer.from("peeked"));
    expect(SocketReader.attach(ours, () => {})).toBeUndefined();
    theirs.destroy();
  });
});
