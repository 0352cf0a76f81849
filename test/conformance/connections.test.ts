import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { type BothApp, bothApp } from "../support/both-app.ts";
import { withBystander } from "../support/bystander.ts";
import { Hops, type HopsOptions } from "../support/hops.ts";
import { until } from "../support/until.ts";

/*
 * How many connections there may be: floods of them, the bound of one client and of all, and a process that has no
 * descriptor left.
 */

let closers: (() => void)[] = [];
let uncaught: unknown[] = [];
const onUncaught = (error: unknown) => uncaught.push(error);
beforeEach(() => {
  uncaught = [];
  process.on("uncaughtExceptionMonitor", onUncaught);
});
afterEach(() => {
  process.off("uncaughtExceptionMonitor", onUncaught);
  for (const close of closers.toReversed()) close();
  closers = [];
  expect(uncaught).toEqual([]);
});

const POLICY = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] });
const descriptors = () => readdirSync("/proc/self/fd").length;

async function application(): Promise<BothApp> {
  const app = await bothApp((_req, res) => void res.end("hi"));
  closers.push(() => app.close());
  return app;
}

async function start(options: Partial<HopsOptions> = {}): Promise<Hops & { appPort: number }> {
  const app = await application();
  const hops = await Hops.start({ appPort: app.port, inboundPolicy: POLICY, ...options });
  closers.push(() => hops.close());
  return Object.assign(hops, { appPort: app.port });
}

/** A connection that is kept, and whether it was refused. */
class Held {
  readonly socket: Socket;
  refused = false;
  connected = false;

  constructor(port: number, localAddress = "127.0.0.1") {
    this.socket = connect({ host: "127.0.0.1", port, localAddress });
    this.socket.on("connect", () => {
      this.connected = true;
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.refused = true;
    });
    this.socket.resume();
    closers.push(() => this.socket.destroy());
  }
}

async function hold(port: number, count: number, localAddress?: string): Promise<Held[]> {
  const held = Array.from({ length: count }, () => new Held(port, localAddress));
  await until(() => held.every(({ connected, refused }) => connected || refused), "all were taken or refused");
  return held;
}

/** A refusal comes after the handshake that the kernel did. */
const refused = (held: readonly Held[], count: number) =>
  until(() => held.filter((each) => each.refused).length === count, `${count} are refused`);

/** One request over a connection of its own from an address; the status, or 0 if it was refused. */
function ask(port: number, localAddress: string): Promise<number> {
  return new Promise((resolve) => {
    const req = request({ host: "127.0.0.1", port, localAddress, agent: false }, (res) => {
      res.resume();
      res.on("end", () => resolve(res.statusCode ?? 0));
    });
    req.on("error", () => resolve(0));
    req.end();
  });
}

function refusals(hops: Hops, side: "inbound" | "outbound"): number {
  let sum = 0;
  const { metrics } = side === "inbound" ? hops.server : hops.client;
  for (const { labels, values } of metrics.read(`${side}_tcp_errors_total`))
    if (labels["error"] === "too many connections") sum += values[0] ?? 0;
  return sum;
}

describe("too many connections", () => {
  test("of one client are refused beyond its bound, and others are unaffected", async () => {
    const hops = await start({ bounds: { total: 2_000, perClient: 100 }, detectTimeoutMs: 60_000 });
    const port = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: hops.appPort });
    const atLimit = await hold(port, 100, "127.0.0.7");
    await refused(await hold(port, 1, "127.0.0.7"), 1);
    await refused(await hold(port, 1_000, "127.0.0.7"), 1_000);
    await refused(atLimit, 0);
    expect(await ask(port, "127.0.0.8")).toBe(200);
    expect(await ask(port, "127.0.0.7")).toBe(0);
    expect(refusals(hops, "inbound")).toBe(1_002);
    // Said once, not a thousand times.
    expect(hops.server.log.lines.filter((line) => line.startsWith("warn refused connections"))).toHaveLength(1);
    atLimit[0]?.socket.destroy();
    await until(async () => (await ask(port, "127.0.0.7")) === 200, "one that is closed makes room");
  });

  test("in all are refused, whoever opens them; on the outbound side only that counts", async () => {
    const hops = await start({ bounds: { total: 60, perClient: 5 }, detectTimeoutMs: 60_000 });
    const held = await hold(hops.port, 60);
    await refused(await hold(hops.port, 200), 200);
    await refused(held, 0);
    expect(refusals(hops, "outbound")).toBe(200);
    for (const { socket } of held) socket.destroy();
    await until(async () => (await ask(hops.port, "127.0.0.1")) === 200, "room again");
  });
});

describe("floods of connections", () => {
  test("that are closed at once leave nothing behind, and a bystander does not notice", async () => {
    const hops = await start();
    const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: hops.appPort });
    await ask(hops.port, "127.0.0.1");
    const before = descriptors();
    const bystander = await withBystander(hops.port, async () => {
      // Long enough for a bystander who asks every 100 ms, however fast the machine is.
      const enough = performance.now() + 1_000;
      for (let round = 0; round < 30 || performance.now() < enough; round++) {
        const sockets = Array.from({ length: 50 }, (_, i) => {
          const socket = connect({
            host: "127.0.0.1",
            port: [hops.port, hops.directPort, intercepted][i % 3] as number,
          });
          socket.on("error", () => {});
          socket.on("connect", () => (i % 2 === 0 ? socket.destroy() : socket.resetAndDestroy()));
          return socket;
        });
        await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
      }
    });
    expect(bystander.failures).toEqual([]);
    expect(bystander.asked).toBeGreaterThan(4);
    await until(() => descriptors() <= before + 6, "no descriptor stays");
    await until(() => hops.client.connections.size === 0, "no connection stays");
  });

  // The process of its own has 128 descriptors, and bounds that it cannot keep with them.
  test("that use up every descriptor are survived", async () => {
    const app = await application();
    const child = spawn(
      "prlimit",
      [
        "--nofile=128:128",
        process.execPath,
        new URL("../support/hop-process.ts", import.meta.url).pathname,
        String(app.port),
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    closers.push(() => child.kill("SIGKILL"));
    const lines = createInterface({ input: child.stdout });
    const [first] = (await once(lines, "line")) as [string];
    const port = Number(first);
    expect(await ask(port, "127.0.0.1")).toBe(200);
    const held = await hold(port, 400);
    // What it could not take it has closed; nobody is left to wait.
    await until(() => held.filter((each) => each.refused).length > 250, "the rest was closed");
    expect(held.filter((each) => !each.refused).length).toBeGreaterThan(20);
    expect(child.exitCode).toBeNull();
    for (const { socket } of held) socket.destroy();
    await until(async () => (await ask(port, "127.0.0.1")) === 200, "it serves again");
    expect(child.exitCode).toBeNull();
  });
});
