import { once } from "node:events";
import type { Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Pace, SocketReader } from "../../../src/proxy/transport/socket-reader.ts";
import { socketPair } from "../../support/socket-pair.ts";

const open: Socket[] = [];
const attach = (socket: Socket, receive: (chunk: Buffer) => void, pace: Pace = "line", lends = false) =>
  SocketReader.attach(socket, receive, lends, pace);

afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
  vi.restoreAllMocks();
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
    const reader = attach(ours, (chunk) => got.push(chunk));
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
    const reader = attach(ours, (chunk) => got.push(chunk));
    ours.resume();
    reader?.resume();
    const sent = Buffer.alloc(700_001);
    for (let i = 0; i < sent.length; i++) sent[i] = (i * 31 + (i >> 8)) & 0xff;
    for (let at = 0, size = 1; at < sent.length; at += size, size = (size * 3) % 60_007)
      theirs.write(sent.subarray(at, at + size));
    await until(() => got.reduce((sum, { length }) => sum + length, 0) === sent.length);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
  });

  it("lends what it read, if that is wanted: the next read comes to the same place", async () => {
    const { ours, theirs } = await pair();
    const got: Buffer[] = [];
    const reader = attach(ours, (chunk) => got.push(chunk), "shared", true);
    ours.resume();
    reader?.resume();
    theirs.write("first");
    await until(() => got.length === 1);
    theirs.write("other");
    await until(() => got.length === 2);
    expect(got.map(String)).toEqual(["other", "other"]);
  });

  it("is paused and given away between its turns like any other", async () => {
    const { ours, theirs } = await pair();
    const bytes = 1024 * 1024;
    let read = 0;
    const reader = attach(ours, ({ length }) => {
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
    const reader = attach(ours, (chunk) => {
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
    const reader = attach(ours, (chunk) => {
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

  it("takes what was put back first", async () => {
    const { ours, theirs } = await pair();
    const got: string[] = [];
    const reader = attach(ours, (chunk) => got.push(String(chunk)));
    ours.on("end", () => got.push("(end)"));
    ours.resume();
    reader?.putBack(Buffer.from("peeked"));
    theirs.end("later");
    reader?.resume();
    await until(() => got.includes("(end)"));
    expect(got).toEqual(["peeked", "later", "(end)"]);
  });

  it("leaves a socket alone in whose stream bytes wait", async () => {
    const { ours, theirs } = await pair();
    ours.unshift(Buffer.from("peeked"));
    expect(attach(ours, () => {})).toBeUndefined();
    theirs.destroy();
  });
});

describe("SocketReader's turns", () => {
  const LARGE = 64 * 1024;

  /** A clock that only work moves. */
  function workClock(): (ms: number) => void {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    return (ms) => {
      now += ms;
    };
  }

  /** Reads sockets, each chunk of which takes its time, and says what each turn of the loop took of every socket. */
  async function turns(peers: readonly { pace: Pace; costMs: number; bytes: number }[]): Promise<number[][]> {
    const work = workClock();
    let inTurn = peers.map(() => 0);
    let left = peers.reduce((sum, { bytes }) => sum + bytes, 0);
    const senders: Socket[] = [];
    for (const [i, { pace, costMs }] of peers.entries()) {
      const { ours, theirs } = await pair();
      senders.push(theirs);
      const take = ({ length }: Buffer) => {
        work(costMs);
        inTurn[i] = (inTurn[i] ?? 0) + length;
        left -= length;
      };
      ours.resume();
      attach(ours, take, pace)?.resume();
    }
    // Within one turn, so that the next one finds all of it.
    for (const [i, { bytes }] of peers.entries()) senders[i]?.write(Buffer.alloc(bytes));
    const all: number[][] = [];
    await until(() => {
      if (inTurn.some((bytes) => bytes > 0)) all.push(inTurn);
      inTurn = peers.map(() => 0);
      return left === 0;
    });
    return all;
  }
  const most = (all: readonly number[][], i: number) => Math.max(...all.map((turn) => turn[i] ?? 0));

  it.each<[Pace, number]>([
    ["shared", 4],
    ["single", 1],
    ["line", 1],
  ])("what takes long (%s) has one chunk a turn", async (pace, costMs) => {
    const all = await turns([{ pace, costMs, bytes: 2 * 1024 * 1024 }]);
    expect(most(all, 0)).toBeLessThanOrEqual(LARGE);
  });

  it.each<Pace>(["single", "line"])(
    "one client's messages (%s) have 64 KiB a turn, also if they cost nothing",
    async (pace) => {
      const all = await turns([{ pace, costMs: 0, bytes: 2 * 1024 * 1024 }]);
      expect(most(all, 0)).toBeLessThan(2 * LARGE);
    },
  );

  it("many clients' messages are not kept waiting if they cost nothing", async () => {
    const all = await turns([{ pace: "shared", costMs: 0, bytes: 2 * 1024 * 1024 }]);
    expect(most(all, 0)).toBeGreaterThan(2 * LARGE);
  });

  it("all in line together have two milliseconds, whoever they are, and take turns; others have theirs beside them", async () => {
    const stranger = { pace: "line", costMs: 1.5, bytes: 8 * LARGE } as const;
    const all = await turns([...Array.from({ length: 12 }, () => stranger), { ...stranger, pace: "shared" }]);
    const busy = all.slice(2, -6);
    expect(busy.length).toBeGreaterThan(8);
    for (const turn of busy) {
      expect(turn.slice(0, 12).filter((bytes) => bytes > 0).length).toBeLessThanOrEqual(2);
      expect(Math.max(...turn.slice(0, 12))).toBeLessThanOrEqual(LARGE);
    }
    // The one who stands in no line had a part of every turn, until it had all.
    const served = all.filter((turn) => (turn[12] ?? 0) > 0);
    expect(all.indexOf(served.at(-1) as number[])).toBeLessThan(all.length / 2);
  });

  it("no more than 128 are set aside", async () => {
    const all = await turns(Array.from({ length: 150 }, () => ({ pace: "line", costMs: 5, bytes: LARGE }) as const));
    const served = all.map((turn) => turn.filter((bytes) => bytes > 0).length);
    expect(Math.max(...served)).toBeGreaterThanOrEqual(20);
    expect(served.filter((count) => count === 1).length).toBeGreaterThan(100);
  });

  it("a small read passes the line", async () => {
    const work = workClock();
    const order: string[] = [];
    const flood = await pair();
    const small = await pair();
    const behind = await pair();
    const floods = attach(flood.ours, () => {
      work(5);
      order.push("flood");
    });
    const follows = attach(behind.ours, () => order.push("behind"));
    const asks = attach(small.ours, () => order.push("small"));
    for (const { ours } of [flood, small, behind]) ours.resume();
    for (const { theirs } of [flood, behind]) theirs.write(Buffer.alloc(LARGE));
    small.theirs.write("hello");
    await new Promise((resolve) => setTimeout(resolve, 20));
    floods?.resume();
    follows?.resume();
    asks?.resume();
    await until(() => order.filter((who) => who === "behind").length > 0 && order.includes("small"));
    expect(order.indexOf("flood")).toBe(0);
    expect(order.indexOf("small")).toBeLessThan(order.indexOf("behind"));
  });
});
