import { readdirSync } from "node:fs";
import { createServer as createHttp, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { CLIENT_NAME, Hops, type HopsOptions, identityFrom, SERVER_NAME } from "../support/hops.ts";
import { until } from "../support/until.ts";

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

async function start(app: Server, options: Partial<HopsOptions> = {}): Promise<Hops & { appPort: number }> {
  app.listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  const appPort = (app.address() as AddressInfo).port;
  const hops = await Hops.start({ appPort, inboundPolicy: POLICY, ...options });
  closers.push(() => {
    hops.close();
    app.close();
    app.closeAllConnections();
  });
  return Object.assign(hops, { appPort });
}

/** A client's socket that survives whatever is done to it. */
function dial(port: number): Socket {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.on("error", () => {});
  closers.push(() => socket.destroy());
  return socket;
}

const descriptors = () => readdirSync("/proc/self/fd").length;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const connected = (sockets: readonly Socket[]) =>
  Promise.all(sockets.map((socket) => socket.connecting && new Promise((resolve) => socket.once("connect", resolve))));
/** Reads, or the FIN of the proxy goes unnoticed. */
const watched = (sockets: readonly Socket[]) => {
  let ended = 0;
  for (const socket of sockets) {
    socket.resume();
    let counted = false;
    const count = () => {
      if (!counted) ended++;
      counted = true;
      socket.destroy();
    };
    socket.on("end", count);
    socket.on("close", count);
  }
  return () => ended;
};

describe("clients that take their time", () => {
  const page = () => createHttp((_req, res) => res.end("hi"));

  test("half a head is waited for ten seconds, on both hops", async () => {
    const hops = await start(page());
    const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: hops.appPort });
    const sockets = Array.from({ length: 200 }, (_, i) => dial(i % 2 === 0 ? hops.port : intercepted));
    await connected(sockets);
    const ended = watched(sockets);
    for (const socket of sockets) socket.write("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    await pause(200);
    // A byte now and then does not help. Real time passes as well: room for a busy machine.
    for (let i = 0; i < 6; i++) {
      hops.skip(1_000);
      for (const socket of sockets) socket.write("x");
      await pause(20);
    }
    await pause(150);
    expect(ended()).toBe(0);
    hops.skip(4_500);
    await until(() => ended() === 200, "all were given up", 2_000);
    expect(hops.client.ended.length + hops.server.ended.length).toBe(0);
  });

  test("an idle connection is closed after a minute, not before", async () => {
    const hops = await start(page());
    const sockets = Array.from({ length: 50 }, () => dial(hops.port));
    await connected(sockets);
    const ended = watched(sockets);
    for (const socket of sockets) socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => hops.client.ended.length === 50, "all were answered");
    hops.skip(58_000);
    await pause(300);
    expect(ended()).toBe(0);
    hops.skip(3_000);
    await until(() => ended() === 50, "all were closed", 2_000);
  });

  test("a body that trickles is given up after a minute without enough of it", async () => {
    const requests: IncomingMessage[] = [];
    const hops = await start(createHttp((req) => void requests.push(req.resume())));
    const sockets = Array.from({ length: 20 }, () => dial(hops.port));
    const ended = watched(sockets);
    for (const socket of sockets) socket.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    await until(() => requests.length === 20, "the application has them");
    for (let i = 0; i < 5; i++) {
      hops.skip(10_000);
      for (const socket of sockets) socket.write("x");
      await pause(120);
    }
    expect(ended()).toBe(0);
    hops.skip(12_000);
    await until(() => ended() === 20, "all were given up", 3_000);
    await until(() => requests.every((req) => req.destroyed), "the application knows");
  });

  test("a handshake that stops at any stage is ended within its time", async () => {
    const hops = await start(page());
    const before = descriptors();
    const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
    const hello = await clientHello();
    const silent = Array.from({ length: 30 }, () => dial(hops.directPort));
    const partial = Array.from({ length: 30 }, () => dial(hops.directPort));
    const whole = Array.from({ length: 30 }, () => dial(hops.directPort));
    // These finish the handshake, and never say where they want to go.
    const headless = Array.from({ length: 30 }, () => {
      const socket = connectTls({
        host: "127.0.0.1",
        port: hops.directPort,
        servername: SERVER_NAME,
        ca: hops.authority.certificatePem,
        key: keyPem,
        cert: certificatePem,
        ALPNProtocols: ["transport.l5d.io/v1"],
        checkServerIdentity: () => undefined,
      });
      socket.on("error", () => {});
      return socket;
    });
    const all = [...silent, ...partial, ...whole, ...headless];
    await connected([...silent, ...partial, ...whole]);
    const early = watched([...silent, ...partial, ...headless]);
    const late = watched(whole);
    for (const socket of partial) socket.write(hello.subarray(0, 40));
    for (const socket of whole) socket.write(hello);
    const startedAt = performance.now();
    await until(() => early() === 90, "those before and after the handshake were closed", 4_000);
    // OpenSSL's flight went out and nothing came back: Node's own timer, which cannot be moved.
    await until(() => late() === 30, "those within were closed", 25_000);
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    for (const socket of all) socket.destroy();
    await until(() => descriptors() <= before + 2, "no descriptor stays", 3_000);
    expect((await fetch(`http://127.0.0.1:${hops.port}/`)).status).toBe(200);
  });
});

/** The first flight of a client of the mesh, as bytes. */
async function clientHello(): Promise<Buffer> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const read = new Promise<Buffer>((resolve) => {
    server.once("connection", (socket) => {
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        const all = Buffer.concat(chunks);
        if (all.length >= 5 + all.readUInt16BE(3)) {
          resolve(all);
          socket.destroy();
        }
      });
    });
  });
  const client = connectTls({
    host: "127.0.0.1",
    port,
    servername: SERVER_NAME,
    ALPNProtocols: ["transport.l5d.io/v1"],
  });
  client.on("error", () => {});
  const bytes = await read;
  client.destroy();
  server.close();
  return bytes;
}

const MiB = 1024 * 1024;

describe("peers that stop reading", () => {
  /** Sends as much as is taken, of 100 MiB, and says how much was. */
  function fountain(): { app: Server; sent: () => number[]; open: () => number } {
    const counts: { bytes: number }[] = [];
    let open = 0;
    const app = createHttp((_req, res) => {
      const count = { bytes: 0 };
      counts.push(count);
      open++;
      res.on("close", () => open--);
      const block = Buffer.alloc(64 * 1024);
      let left = 100 * MiB;
      res.writeHead(200, { "content-length": left });
      const more = () => {
        while (left > 0) {
          left -= block.length;
          count.bytes += block.length;
          if (!res.write(block)) return void res.once("drain", more);
        }
        res.end();
      };
      more();
    });
    return { app, sent: () => counts.map(({ bytes }) => bytes), open: () => open };
  }

  async function settled(read: () => number): Promise<number> {
    for (let before = -1; ; ) {
      const now = read();
      if (now === before) return now;
      before = now;
      await pause(250);
    }
  }

  test("an HTTP/1 client that does not read stops the application, and is given up after five minutes", async () => {
    const { app, sent, open } = fountain();
    const hops = await start(app);
    const clients = Array.from({ length: 5 }, () => dial(hops.port));
    await connected(clients);
    for (const client of clients) client.pause().write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => sent().length === 5, "all are under way");
    await settled(() => sent().reduce((sum, bytes) => sum + bytes, 0));
    // Of 100 MiB, what the kernel's buffers and ours took on the way.
    for (const bytes of sent()) expect(bytes).toBeLessThan(24 * MiB);
    hops.client.clock.skip(290_000);
    await pause(300);
    expect(open()).toBe(5);
    hops.client.clock.skip(11_000);
    await until(() => open() === 0, "the application knows that nobody listens");
  });
});
