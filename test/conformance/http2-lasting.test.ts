import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { ErrorCode, PREFACE } from "../../src/proxy/wire/http2/index.ts";
import { type BothApp, bothApp } from "../support/both-app.ts";
import { withBystander } from "../support/bystander.ts";
import { Hops } from "../support/hops.ts";
import { END_HEADERS, END_STREAM, frame, GET, literalBlock, rawFrame } from "../support/http2.ts";
import { post, RawHttp2 } from "../support/raw-http2.ts";
import { seededRng } from "../support/rng.ts";
import { until } from "../support/until.ts";

/*
 * Attacks that are no flood: what lasts, what is garbage, what stands still. Against an inbound hop in a process of its
 * own, whose memory is its own as well.
 */

const KiB = 1024;
const MiB = 1024 * KiB;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const times = (count: number, make: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));

/** Sends as much as is taken, and counts it. */
const fountains = new Set<{ bytes: number }>();
function answer(req: IncomingMessage, res: ServerResponse): void {
  res.on("error", () => {});
  req.on("error", () => {});
  req.resume();
  if (req.url !== "/fountain") return void req.on("end", () => res.end("hi"));
  const count = { bytes: 0 };
  fountains.add(count);
  res.on("close", () => fountains.delete(count));
  const block = Buffer.alloc(16 * KiB);
  const more = (): void => {
    while (count.bytes < 200 * MiB && !res.destroyed) {
      count.bytes += block.length;
      if (!res.write(block)) return void res.once("drain", more);
    }
  };
  more();
}

let app: BothApp;
let hop: ChildProcess;
let port = 0;
let complaints = "";
beforeAll(async () => {
  app = await bothApp(answer, { streamResetBurst: 1_000_000, streamResetRate: 1_000_000 });
  hop = spawn(process.execPath, [new URL("../support/hop-process.ts", import.meta.url).pathname, String(app.port)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  hop.stderr?.on("data", (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  const [line] = (await once(createInterface({ input: hop.stdout as NodeJS.ReadableStream }), "line")) as [string];
  port = Number(line);
});
afterAll(() => {
  hop.kill();
  app.close();
});
let open: Socket[] = [];
afterEach(() => {
  for (const socket of open) socket.destroy();
  open = [];
  expect(hop.exitCode).toBeNull();
  expect(complaints).toBe("");
});

const pssBytes = () =>
  Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${hop.pid}/smaps_rollup`, "utf8"))?.[1]) * KiB;
/** What objects and buffers take, without garbage and what the allocator has for the next ones. */
async function keptBytes(): Promise<number> {
  const said = once(hop.stdout as NodeJS.ReadableStream, "data") as Promise<[Buffer]>;
  hop.kill("SIGUSR2");
  const [line] = await said;
  return Number(line.toString());
}
const descriptors = () => readdirSync(`/proc/${hop.pid}/fd`).length;

function dial(): Socket {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  open.push(socket);
  return socket;
}

async function peer(...settings: [number, number][]): Promise<RawHttp2> {
  const opened = await RawHttp2.open(port, ...settings);
  open.push(opened.socket);
  return opened;
}

describe("garbage", () => {
  test("in HEADERS and HPACK of 500 connections: the process lives, and a bystander does not notice (F13, CVE-2025-59465)", async () => {
    const random = seededRng(13);
    const garbage = (length: number) => Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
    const before = descriptors();
    const seen = await withBystander(port, async () => {
      for (let round = 0; round < 10; round++) {
        const sockets = Array.from({ length: 50 }, (_, i) => {
          const socket = dial();
          socket.resume();
          const block = garbage(20 + ((i * 7) % 300));
          const parts = [PREFACE, frame.settings()];
          if (i % 4 === 0) parts.push(rawFrame(1, END_HEADERS | END_STREAM, 1, block));
          else if (i % 4 === 1) parts.push(rawFrame(1, i & 0x2d, 1, block), rawFrame(9, END_HEADERS, 1, garbage(40)));
          else if (i % 4 === 2) parts.push(rawFrame(i & 0xff, i & 0x7f, i & 3, block));
          else parts.push(garbage(200));
          socket.write(Buffer.concat(parts));
          setTimeout(() => (i % 2 === 0 ? socket.destroy() : socket.resetAndDestroy()), 40);
          return socket;
        });
        await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
      }
      await pause(300);
    });
    expect(seen.failures).toEqual([]);
    await until(() => descriptors() <= before + 4, "no descriptor stays");
  });
});

describe("connections that end and go on", () => {
  test("GOAWAY of the client, then 10,000 resets: cut or served, and memory comes back (F14, CVE-2023-35945)", async () => {
    const attack = async () => {
      const one = await peer();
      one.write(frame.headers(1, post("/")), rawFrame(7, 0, 0, Buffer.alloc(8)));
      for (let i = 0; i < 10; i++)
        if (!(await one.pour(times(1_000, (k) => frame.reset(2 * (i * 1_000 + k) + 3, 8))))) break;
      await until(() => one.closed || one.ended.has(1), "it is over");
      one.close();
    };
    await attack();
    await pause(200);
    const before = pssBytes();
    for (let i = 0; i < 10; i++) await attack();
    await pause(500);
    expect(pssBytes() - before).toBeLessThan(Math.max(8 * MiB, before * 0.05));
  });

  test("a header table that is set to nothing and to 4 GiB again and again stays below 64 KiB (F15)", async () => {
    const before = pssBytes();
    const peers = await Promise.all(Array.from({ length: 20 }, () => peer()));
    for (let round = 0; round < 15; round++) {
      for (const one of peers) {
        one.write(frame.settings([1, 0]), frame.settings([1, 0xffff_ffff]));
        // Size updates to 0 and back to 4,096, and an entry of 3,000 octets.
        const block = Buffer.concat([
          Buffer.of(0x20, 0x3f, 0xe1, 0x1f),
          literalBlock([...GET, ["x", "v".repeat(3_000)]]),
        ]);
        one.write(rawFrame(1, END_HEADERS | END_STREAM, 2 * round + 1, block));
      }
      await pause(40);
    }
    await until(() => peers.every((one) => one.closed || one.ended.has(1)), "they were answered or cut");
    expect(pssBytes() - before).toBeLessThan(20 * (64 + 128) * KiB + 8 * MiB);
  });

  test("at the end of the identifiers the connection ends gracefully, and the next one serves (F18)", async () => {
    const one = await peer();
    one.write(frame.headers(1, GET));
    await until(() => one.ended.has(1), "the first is answered");
    one.write(frame.headers(0x7fff_ffff, GET));
    await until(() => one.ended.has(0x7fff_ffff) || one.goaway !== undefined, "the last is answered");
    await until(() => one.goaway !== undefined, "GOAWAY");
    expect(one.goaway).toBe(ErrorCode.noError);
    const next = await peer();
    next.write(frame.headers(1, GET));
    await until(() => next.ended.has(1), "another connection serves");
  });
});

describe("handshakes of HTTP/2 that nobody finishes", () => {
  test.each<[string, Buffer]>([
    ["half a preface", PREFACE.subarray(0, 16)],
    ["a preface without SETTINGS", PREFACE],
    ["half of SETTINGS", Buffer.concat([PREFACE, frame.settings([4, 1]).subarray(0, 10)])],
    ["SETTINGS of ours never acknowledged", Buffer.concat([PREFACE, frame.settings()])],
  ])("%s: closed within ten seconds (F19)", async (_what, said) => {
    const mine = await Hops.start({
      appPort: app.port,
      detectTimeoutMs: 10_000,
      inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] }),
    });
    const intercepted = await mine.server.listenIntercepted({ ip: "127.0.0.1", port: app.port });
    const socket = connect(intercepted, "127.0.0.1");
    socket.on("error", () => {});
    socket.resume();
    let closed = false;
    socket.on("end", () => {
      closed = true;
    });
    socket.on("close", () => {
      closed = true;
    });
    socket.write(said);
    await pause(200);
    expect(closed).toBe(false);
    mine.skip(10_100);
    await until(() => closed, "it is closed");
    socket.destroy();
    mine.close();
  });
});

describe("peers that take nothing (W03)", () => {
  const STALLED = 50;
  /** Every fountain has come to a stop. */
  async function settled(count: number): Promise<number[]> {
    for (let before = -1; ; ) {
      await pause(400);
      const now = [...fountains].reduce((sum, { bytes }) => sum + bytes, 0);
      if (now === before && fountains.size === count) return [...fountains].map(({ bytes }) => bytes);
      before = now;
    }
  }

  test.each<[string, number, (count: number) => Promise<unknown>]>([
    [
      "HTTP/1",
      128,
      async (count) => {
        for (let i = 0; i < count; i++) dial().pause().write("GET /fountain HTTP/1.1\r\nHost: a\r\n\r\n");
      },
    ],
    [
      // The 64 KiB window of the application's stream, which waits for the socket, and at most 16 KiB before it.
      "HTTP/2, windows wide open and nobody reads",
      128,
      async (count) => {
        for (let i = 0; i < count; i++) {
          const socket = dial().pause();
          socket.write(
            Buffer.concat([
              PREFACE,
              frame.settings([4, 0x7fff_ffff]),
              frame.windowUpdate(0, 0x7ffe_0000),
              frame.settingsAck(),
            ]),
          );
          socket.write(
            frame.headers(
              1,
              GET.map(([name, value]) => [name, name === ":path" ? "/fountain" : value]),
            ),
          );
        }
      },
    ],
    [
      "HTTP/2, fifty streams whose windows stay shut",
      128,
      async (count) => {
        const one = await peer([4, 0]);
        const fountain = GET.map(([name, value]): [string, string] => [name, name === ":path" ? "/fountain" : value]);
        one.write(times(count, (i) => frame.headers(2 * i + 1, fountain)));
      },
    ],
  ])("%s: at most %i KiB each, and the application stops", async (_what, mostKiB, stall) => {
    // As many before: what flowed until everything stood still left its garbage, once for the process and not per stream:
    // V8 collects when 64 MB of buffers are garbage, whoever read them.
    const fresh = pssBytes();
    await stall(STALLED);
    await settled(STALLED);
    expect(pssBytes() - fresh).toBeLessThan(STALLED * 128 * KiB + 96 * MiB);
    for (const socket of open) socket.destroy();
    await until(() => fountains.size === 0, "the application knows that they are gone");
    await pause(500);
    const before = await keptBytes();
    await stall(STALLED);
    const sent = await settled(STALLED);
    const each = ((await keptBytes()) - before) / STALLED;
    console.info(
      `${(each / KiB).toFixed(0)} KiB each, the application sent ${(Math.max(...sent) / MiB).toFixed(1)} MiB`,
    );
    expect(each).toBeLessThan(mostKiB * KiB);
    // Of 200 MiB, what the kernel's buffers on the way took: without any proxy 3.8 MiB here, so twice that with one. In
    // the same place HAProxy lets 9.4 MiB go, nginx 10.1.
    expect(Math.max(...sent)).toBeLessThan(12 * MiB);
  });
});

describe("resets at random points (W08)", () => {
  test("of 1,000 clients, and by the application: nothing stays, and a bystander does not notice", async () => {
    const random = seededRng(8);
    const request = Buffer.from("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".padEnd(900, "x"));
    const before = descriptors();
    const seen = await withBystander(port, async () => {
      for (let round = 0; round < 20; round++) {
        const sockets = Array.from({ length: 50 }, () => {
          const socket = dial();
          socket.resume();
          socket.write(request.subarray(0, Math.floor(random() * request.length)));
          setTimeout(() => socket.resetAndDestroy(), random() * 30);
          return socket;
        });
        await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
      }
    });
    expect(seen.failures).toEqual([]);
    await until(() => descriptors() <= before + 4, "no descriptor stays", 5_000);

    const resetting = createServer((req) => setTimeout(() => req.socket.resetAndDestroy(), random() * 10));
    resetting.listen(0, "127.0.0.1");
    await once(resetting, "listening");
    const appPort = (resetting.address() as AddressInfo).port;
    const mine = await Hops.start({
      appPort,
      inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
    });
    const intercepted = await mine.server.listenIntercepted({ ip: "127.0.0.1", port: appPort });
    const statuses = await Promise.all(
      Array.from({ length: 200 }, () => fetch(`http://127.0.0.1:${intercepted}/`).then(({ status }) => status)),
    );
    expect(new Set(statuses)).toEqual(new Set([502]));
    mine.close();
    resetting.close();
  });
});
