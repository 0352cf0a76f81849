import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { DEFAULT_LIMITS, ErrorCode } from "../../src/proxy/wire/http2/index.ts";
import { encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { type BothApp, bothApp } from "../support/both-app.ts";
import { withBystander } from "../support/bystander.ts";
import { CLIENT_NAME, Hops, identityFrom, SERVER_NAME } from "../support/hops.ts";
import { END_HEADERS, frame, GET, literalBlock, rawFrame } from "../support/http2.ts";
import { post, RawHttp2 } from "../support/raw-http2.ts";
import { until } from "../support/until.ts";

const CALM = ErrorCode.enhanceYourCalm;
// What hardening asks for once, by hand, is done with SOAK=1.
const SOAK = process.env["SOAK"] === "1";
const FLOOD_SECONDS = SOAK ? 60 : 4;
const CANCEL_SECONDS = SOAK ? 600 : 12;
// More than a stream's window.
const PAGE = Buffer.alloc(70_000, "x");
// Node's own limits are for strangers: what an application takes from its proxy is its own business.
const PATIENT = { streamResetBurst: 1_000_000, streamResetRate: 1_000_000, maxSessionMemory: 1_000 };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const times = (count: number, make: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
const reset = (i: number) => Buffer.concat([frame.headers(2 * i + 1, post("/slow")), frame.reset(2 * i + 1, 8)]);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
/** What is used of heap and buffers, in MB. */
function usedMb(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1e6;
}

/** Told how long each request was under way in the application until it was given up, in ms. */
let heldMs: ((ms: number) => void) | undefined;
/** What the application has under way and knows to be given up. */
let alive = 0;
let mostAlive = 0;
let app: BothApp;

function answer(req: IncomingMessage, res: ServerResponse): void {
  if (req.url === "/slow") {
    mostAlive = Math.max(mostAlive, ++alive);
    let over = false;
    const began = performance.now();
    const end = () => {
      if (!over) {
        alive--;
        heldMs?.(performance.now() - began);
      }
      over = true;
    };
    res.on("close", end);
    req.on("aborted", end);
    res.on("error", () => {});
    return;
  }
  req.resume();
  if (req.url === "/page") res.end(PAGE);
  else res.end("hi");
}

beforeAll(async () => {
  app = await bothApp(answer, PATIENT);
});
afterAll(() => app.close());

describe("one connection of a stranger, through the inbound hop", () => {
  let hop: ChildProcess;
  let port = 0;
  let complaints = "";
  beforeAll(async () => {
    const script = new URL("../support/hop-process.ts", import.meta.url).pathname;
    // The heap of a worker, as `worker-heap.ts` has it.
    hop = spawn(process.execPath, ["--initial-heap-size=128", "--max-semi-space-size=8", script, String(app.port)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    hop.stderr?.on("data", (chunk: Buffer) => (complaints += chunk.toString()));
    port = Number(
      await new Promise((resolve) => hop.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString()))),
    );
  });
  afterAll(() => hop.kill());

  const memory = () => {
    const rollup = readFileSync(`/proc/${hop.pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1]) / 1024;
  };
  /** What objects and buffers take, without garbage. */
  const keptMb = async () => {
    const said = once(hop.stdout as NodeJS.ReadableStream, "data") as Promise<[Buffer]>;
    hop.kill("SIGUSR2");
    return Number((await said)[0].toString()) / 2 ** 20;
  };
  const cut = (peer: RawHttp2) => until(() => peer.closed, "the connection is cut");

  /** The attack up to its limit does no harm, one more costs the connection; far above is the next test's. */
  const limits: [string, number, Buffer, (i: number) => Buffer][] = [
    ["rapid reset (F01, CVE-2023-44487)", DEFAULT_LIMITS.earlyResets, Buffer.alloc(0), reset],
    [
      "server-provoked reset (CVE-2025-8671)",
      DEFAULT_LIMITS.earlyResets,
      Buffer.alloc(0),
      (i) => Buffer.concat([frame.headers(2 * i + 1, post("/slow"), END_HEADERS), frame.windowUpdate(2 * i + 1, 0)]),
    ],
    ["malformed requests", DEFAULT_LIMITS.earlyResets, Buffer.alloc(0), (i) => frame.headers(2 * i + 1, GET.slice(1))],
    [
      "frames of a header block (F03, CVE-2024-27316)",
      DEFAULT_LIMITS.headerFrames - 1,
      rawFrame(1, 0, 1, literalBlock(GET)),
      () => frame.continuation(1, literalBlock([["x", "1"]]), 0),
    ],
    // SETTINGS of the handshake and their acknowledgement are the first two.
    ["SETTINGS (F06)", DEFAULT_LIMITS.settingsPerSecond - 2, Buffer.alloc(0), () => frame.settings([4, 70_000])],
    [
      "empty DATA (F10)",
      DEFAULT_LIMITS.emptyData,
      frame.headers(1, post("/slow"), END_HEADERS),
      () => frame.data(1, ""),
    ],
    ["PING", DEFAULT_LIMITS.pings, Buffer.alloc(0), () => frame.ping()],
    ["PRIORITY (F11)", DEFAULT_LIMITS.idleFrames, Buffer.alloc(0), (i) => frame.priority(2 * i + 1, 0)],
    ["WINDOW_UPDATE", DEFAULT_LIMITS.idleFrames, Buffer.alloc(0), () => frame.windowUpdate(0, 1)],
    ["unknown frames", DEFAULT_LIMITS.idleFrames, Buffer.alloc(0), () => rawFrame(0x77, 0, 0)],
  ];

  test.each(limits)("%s: at the limit, one above, far above", async (_name, limit, before, attack) => {
    const peer = await RawHttp2.open(port);
    peer.write(before, times(limit, attack));
    await pause(150);
    expect(peer.goaway, "at the limit").toBeUndefined();
    peer.write(attack(limit));
    await until(() => peer.goaway === CALM, "one above");
    await cut(peer);

    const worse = await RawHttp2.open(port);
    worse.write(before);
    const far = times(20_000, (i) => attack(i % limit === 0 && limit < 100 ? 0 : i));
    for (let i = 0; i < 10; i++) if (!(await worse.pour(far))) break;
    await cut(worse);
    await until(() => alive === 0, "the application has nothing left to do");
  });

  test("requests whose windows never open (F08): a hundred are served, the rest refused, all reaped after a minute", async () => {
    const before = memory();
    const peer = await RawHttp2.open(port, [4, 0]);
    await until(() => peer.frames.length >= 2, "SETTINGS were exchanged");
    peer.write(
      times(200, (i) =>
        frame.headers(
          2 * i + 1,
          GET.map(([n, v]) => [n, n === ":path" ? "/page" : v]),
        ),
      ),
    );
    await until(() => peer.resets.size === 100 && peer.heads.size === 100, "100 heads, 100 refusals");
    expect(new Set(peer.resets.values())).toEqual(new Set([ErrorCode.refusedStream]));
    const seen = await withBystander(port, () => pause(1_500));
    expect(seen.failures).toEqual([]);
    expect(memory() - before).toBeLessThan(40);
    peer.close();
  });

  test("floods on fifty connections (F20): the bystander stays clean, memory comes back, nobody dies", {
    timeout: (FLOOD_SECONDS + 90) * 1_000,
  }, async () => {
    const idle = await withBystander(port, () => pause(1_500));
    const before = memory();
    const keptBefore = await keptMb();
    const script = new URL("../support/flood-process.ts", import.meta.url).pathname;
    const flooder = spawn(process.execPath, [script, String(port), String(FLOOD_SECONDS)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let used = "";
    flooder.stdout.on("data", (chunk: Buffer) => {
      used += chunk.toString();
    });
    let most = 0;
    const sampling = setInterval(() => {
      most = Math.max(most, memory() - before);
    }, 200);
    const seen = await withBystander(port, () => once(flooder, "exit")).finally(() => clearInterval(sampling));
    await until(() => alive === 0, "the application has nothing left to do");
    if (SOAK) await pause(60_000);
    const after = (await keptMb()) - keptBefore;
    console.info(
      `${used.trim()} connections in ${FLOOD_SECONDS} s, ${seen.asked} asked, p99 ${seen.p99Ms.toFixed(0)} ms ` +
        `(idle ${idle.p99Ms.toFixed(0)} ms), ${before.toFixed(0)} MB, at most +${most.toFixed(0)}, kept +${after.toFixed(1)}`,
    );
    expect(flooder.exitCode).toBe(0);
    expect(seen.failures).toEqual([]);
    expect(Number(used)).toBeGreaterThan(50);
    // Beside other runs on the same cores everybody waits for the machine; alone it is held to what hardening asks for.
    expect(seen.p99Ms).toBeLessThan(SOAK ? Math.max(50, 5 * idle.p99Ms) : 2_000);
    // Some 50 MB are the young heap, three times 8 MB, and compiled code, which any load makes; what is kept is the second figure.
    expect(most).toBeLessThan(112);
    expect(after).toBeLessThan(before / 10);
    expect(hop.exitCode).toBeNull();
    expect(complaints).toBe("");
  });
});

describe("a mesh peer, which carries everybody's requests over one connection", () => {
  let hops: Hops;
  const sessions: ClientHttp2Session[] = [];
  beforeAll(async () => {
    hops = await Hops.start({
      appPort: app.port,
      inboundPolicy: defaultInboundPolicy("all-authenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
    });
  });
  afterAll(() => {
    for (const session of sessions) session.destroy();
    hops.close();
  });

  /** What another agent would open: mutual TLS, then the transport header. */
  async function meshConnection(): Promise<TLSSocket> {
    const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
    const socket = connectTls({
      host: "127.0.0.1",
      port: hops.directPort,
      servername: SERVER_NAME,
      ca: hops.authority.certificatePem,
      checkServerIdentity: () => undefined,
      key: keyPem,
      cert: certificatePem,
      ALPNProtocols: ["transport.l5d.io/v1"],
    });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    const header = encodeTransportHeader({ port: app.port, name: undefined, protocol: "http2" });
    await new Promise((resolve) => socket.write(header, resolve));
    return socket;
  }

  async function meshSession(): Promise<ClientHttp2Session> {
    const socket = await meshConnection();
    const session = connectHttp2("http://a", { createConnection: () => socket });
    sessions.push(session);
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    return session;
  }

  const ask = (session: ClientHttp2Session) =>
    new Promise<number>((resolve) => {
      const stream = session.request({ ":path": "/quick" });
      let status = 0;
      stream.on("response", (headers) => {
        status = Number(headers[":status"]);
      });
      stream.on("error", () => {});
      stream.on("close", () => resolve(status));
      stream.resume();
      stream.end();
    });

  test("1,000 requests a second, each cancelled after 5 ms, are never cut, and others are answered beside them (W13)", {
    timeout: (CANCEL_SECONDS + 60) * 1_000,
  }, async () => {
    const session = await meshSession();
    hops.server.onEnded = () => {};
    const statuses = new Set<number>();
    const held: number[] = [];
    const grown: number[] = [];
    heldMs = (ms) => held.push(ms);
    let asked = 0;
    let answered = 0;
    let cancelled = 0;
    let refused = 0;
    let total = 0;
    const base = usedMb();
    const ends = performance.now() + CANCEL_SECONDS * 1_000;
    let started = performance.now();
    while (performance.now() < ends) {
      // A machine that stood still is not caught up with in one burst, which would be another attack.
      if (performance.now() - started > total + 100) started = performance.now() - total;
      for (const due = Math.floor(performance.now() - started); total < due; total++) {
        const stream = session.request({ ":path": "/slow" });
        stream.on("error", () => {});
        stream.on("close", () => {
          if (stream.rstCode === CALM) refused++;
          else cancelled++;
        });
        stream.end();
        setTimeout(() => stream.close(ErrorCode.cancel), 5);
        if (total % 100 === 0) {
          asked++;
          void ask(session).then((status) => {
            statuses.add(status);
            answered++;
          });
        }
        if (total % 60_000 === 59_999) grown.push(usedMb() - base);
      }
      await pause(1);
    }
    await until(() => answered === asked && cancelled + refused === total, "all have ended");
    await until(() => alive === 0, "the application heard of every one", 1_000);
    held.sort((a, b) => a - b);
    const [half, p99] = [0.5, 0.99].map((part) => held[Math.floor(held.length * part)] ?? 0) as [number, number];
    console.info(
      `${total} in ${CANCEL_SECONDS} s, cancelled after ${half.toFixed(0)} ms, p99 ${p99.toFixed(0)}; grown by ` +
        `${grown.map((mb) => mb.toFixed(1)).join(", ")} MB`,
    );
    expect(statuses).toEqual(new Set([200]));
    expect(total).toBeGreaterThan(CANCEL_SECONDS * 300);
    expect(refused).toBe(0);
    expect(session.closed || session.destroyed).toBe(false);
    // 5 ms are the client's; client, both sides of the hop and application share this process and its loop.
    expect(half).toBeLessThan(105);
    expect(held.length).toBeGreaterThan(total / 2);
    if (grown.length > 2) expect((grown.at(-1) as number) - (grown[1] as number)).toBeLessThan(8);
    heldMs = undefined;
  });

  test("a rapid reset of 20,000 hardly reaches the application, is refused one by one, and the connection stays", async () => {
    const peer = RawHttp2.over(await meshConnection());
    await until(() => peer.frames.length >= 2, "SETTINGS were exchanged");
    mostAlive = 0;
    for (let i = 0; i < 20_000; i += 1_000) await peer.pour(times(1_000, (k) => reset(i + k)));
    peer.write(frame.headers(40_001, GET));
    await until(() => peer.resets.has(40_001), "the next one is refused");
    expect(peer.resets.get(40_001)).toBe(CALM);
    expect(mostAlive).toBeLessThanOrEqual(100);
    hops.skip(10_000);
    peer.write(frame.headers(40_003, GET));
    await until(() => peer.heads.has(40_003), "the connection serves on");
    expect(peer.goaway).toBeUndefined();
    await until(() => alive === 0, "the application has nothing left to do");
    peer.close();
  });

  test("a mesh peer whose hundred answers nobody takes stops none of the others of the same endpoint", async () => {
    const stalled = RawHttp2.over(await meshConnection(), [4, 0]);
    await until(() => stalled.frames.length >= 2, "SETTINGS were exchanged");
    const page = GET.map(([name, value]): [string, string] => [name, name === ":path" ? "/page" : value]);
    stalled.write(times(100, (i) => frame.headers(2 * i + 1, page)));
    await until(() => stalled.heads.size === 100, "a hundred answers stand still");
    const session = await meshSession();
    for (let i = 0; i < 20; i++) expect(await ask(session)).toBe(200);
    stalled.close();
  });
});
