/**
 * What becomes of connections when their agent stops or leaves its place to a successor: each finishes what it has begun,
 * at whatever stage the drain finds it.
 */
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createTcp, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { Hops, type HopsOptions } from "../../support/hops.ts";
import { frame, GET } from "../../support/http2.ts";
import { Pools } from "../../support/pools.ts";
import { RawHttp2 } from "../../support/raw-http2.ts";
import { until } from "../../support/until.ts";

// RFC 9113 §6.
const HEADERS = 1;
const SETTINGS = 4;
const GOAWAY = 7;

const open: { close(): void }[] = [];
let pools: Pools | undefined;
afterEach(async () => {
  await pools?.stop();
  pools = undefined;
  for (const each of open.splice(0).reverse()) each.close();
});

async function listening(server: Server | ReturnType<typeof createTcp>): Promise<number> {
  open.push(server);
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return (server.address() as AddressInfo).port;
}

const web = () => listening(createServer((req, res) => res.end(`saw ${req.url}`)));

/** Speaks first, then says everything back; what is upgraded or opaque is the same to it. */
const echo = () =>
  listening(
    createTcp((socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        const text = chunk.toString("latin1");
        if (text.startsWith("GET ")) socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\n\r\n");
        else socket.write(`echo ${text}`);
      });
      socket.on("end", () => socket.end("bye"));
    }),
  );

/** A program's connection and all that it heard. */
class Program {
  readonly socket: Socket;
  heard = "";
  ended = false;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    open.push({ close: () => this.socket.destroy() });
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk) => {
      this.heard += chunk.toString("latin1");
    });
    this.socket.on("close", () => {
      this.ended = true;
    });
  }

  async connected(): Promise<this> {
    if (this.socket.connecting) await new Promise((resolve) => this.socket.once("connect", resolve));
    return this;
  }

  says(text: string): void {
    this.socket.write(text);
  }

  hears(text: string): Promise<unknown> {
    return until(() => this.heard.includes(text), `"${text}" is heard`);
  }
}

describe("a connection that has not said a word when the drain begins", () => {
  const LIMIT_MS = 20_000;

  async function drained(): Promise<{ port: number; drain: () => Promise<number> }> {
    pools = await Pools.start({ appPort: await web(), clients: 1, servers: 1 });
    const { client, port } = pools;
    const drain = async () => {
      const since = performance.now();
      await client.pool.drain(LIMIT_MS);
      return performance.now() - since;
    };
    return { port, drain };
  }

  test("is served, told that this was all, and ends the drain", async () => {
    const { port, drain } = await drained();
    const program = await new Program(port).connected();
    // A worker takes what is in the backlog before it hears of the drain.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const over = drain();
    await new Promise((resolve) => setTimeout(resolve, 100));
    program.says("GET /late HTTP/1.1\r\nhost: a\r\n\r\n");
    await program.hears("saw /late");
    expect(program.heard.toLowerCase()).toContain("connection: close");
    expect(await over).toBeLessThan(LIMIT_MS / 2);
  });

  test("of HTTP/2 hears SETTINGS first, then GOAWAY, and its request is answered", async () => {
    const { port, drain } = await drained();
    const program = await new Program(port).connected();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const over = drain();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const peer = RawHttp2.over(program.socket);
    peer.write(frame.headers(1, GET));
    await until(() => peer.ended.has(1), "the request is answered");
    const types = peer.frames.map((line) => Number(line.split(" ")[0]));
    expect([types[0], types.indexOf(GOAWAY) < types.indexOf(HEADERS)]).toEqual([SETTINGS, true]);
    expect(peer.resets.size).toBe(0);
    expect(await over).toBeLessThan(LIMIT_MS / 2);
  });
});

describe("a drain of both hops", () => {
  async function start(options: Omit<HopsOptions, "appPort">, appPort: number): Promise<Hops> {
    const hops = await Hops.start({ appPort, ...options });
    open.push(hops);
    return hops;
  }

  /** Drains both, lets the patience with silent clients pass, and tells whether the drain is over. */
  async function drain(hops: Hops): Promise<{ over: boolean }> {
    const state = { over: false };
    let left = 2;
    for (const hop of [hops.client, hops.server])
      hop.connections.drain(() => {
        if (--left === 0) state.over = true;
      });
    for (let i = 0; i < 10; i++) {
      hops.skip(1_000);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return state;
  }

  test.each([
    ["upgraded", {}, "GET / HTTP/1.1\r\nhost: a\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\n", "101 Switching"],
    ["opaque", { opaque: true }, "one", "echo one"],
  ] as const)("lets %s connections go on until they end", async (_kind, options, first, answer) => {
    const hops = await start(options, await echo());
    const program = await new Program(hops.port).connected();
    program.says(first);
    await program.hears(answer);
    const drained = await drain(hops);
    program.says("two");
    await program.hears("echo two");
    expect([program.ended, drained.over]).toEqual([false, false]);
    program.socket.end();
    await program.hears("bye");
    await until(() => drained.over, "the drain ends");
  });

  test("closes at its limit what goes on, with an end and not a reset", async () => {
    const hops = await start({ opaque: true }, await echo());
    const program = await new Program(hops.port).connected();
    program.says("one");
    await program.hears("echo one");
    await drain(hops);
    let errors = 0;
    program.socket.on("error", () => errors++);
    hops.client.connections.destroyAll();
    await until(() => program.ended, "it is closed");
    expect(errors).toBe(0);
  });

  test("announces the end to a program that is being answered, and closes after it", async () => {
    let answer = () => {};
    const app = createServer((_req, res) => {
      answer = () => res.end("at last");
    });
    const hops = await start({}, await listening(app));
    const program = await new Program(hops.port).connected();
    program.says("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    await until(() => hops.server.connections.size === 1, "it is under way");
    await new Promise((resolve) => setTimeout(resolve, 50));
    const drained = await drain(hops);
    answer();
    await program.hears("at last");
    expect(program.heard.toLowerCase()).toContain("connection: close");
    await until(() => program.ended && drained.over, "the connection and the drain end");
  });
});
