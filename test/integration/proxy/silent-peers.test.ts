/** Peers of HTTP/2 that are there and say nothing more: PINGs find them out (inbound.md §6.1, outbound.md §2.4, §7.6). */
import { once } from "node:events";
import { connect as connectHttp2, createServer as createHttp2, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcp } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { Endpoint } from "../../../src/proxy/core/endpoint.ts";
import { forwardPolicy } from "../../../src/proxy/policy/index.ts";
import { ask, Balanced, endpointOf } from "../../support/balanced.ts";
import { type HopProxy, Hops } from "../../support/hops.ts";
import { frame, GET } from "../../support/http2.ts";
import { detect, inboundPolicy, routeTo } from "../../support/inbound-site.ts";
import { RawHttp2 } from "../../support/raw-http2.ts";
import { until } from "../../support/until.ts";

const PING = "6 0 0";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

/** Both hops, and a way to each: a program's, and a client's of an intercepted port. */
async function start(): Promise<{
  hops: Hops;
  ports: Record<"outbound" | "inbound", number>;
  streams: ServerHttp2Stream[];
}> {
  const streams: ServerHttp2Stream[] = [];
  const app = createHttp2();
  app.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    streams.push(stream);
    if (headers[":path"] !== "/never") stream.respond({ ":status": 200 }, { endStream: true });
  });
  open.push(app);
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  const appPort = (app.address() as AddressInfo).port;
  const hops = await Hops.start({ appPort, inboundPolicy: inboundPolicy(detect(10_000, routeTo(""))) });
  open.push(hops);
  const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort });
  return { hops, ports: { outbound: hops.port, inbound: intercepted }, streams };
}

/** Time passes, and everybody has some of it. */
async function pass(proxies: readonly HopProxy[], seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    for (const proxy of proxies) proxy.clock.skip(1_000);
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
}

describe.each(["outbound", "inbound"] as const)("a client of the %s side", (side) => {
  test("that answers no PING is cut after thirteen seconds, and its request with it", async () => {
    const { hops, ports, streams } = await start();
    const peer = await RawHttp2.open(ports[side]);
    open.push(peer);
    peer.write(
      frame.headers(
        1,
        GET.map(([name, value]) => [name, name === ":path" ? "/never" : value]),
      ),
    );
    await until(() => streams.length === 1, "the application is asked");
    const [asked] = streams as [ServerHttp2Stream];
    await pass([hops.client, hops.server], 8);
    expect([peer.frames.includes(PING), peer.closed]).toEqual([false, false]);
    await pass([hops.client, hops.server], 3);
    expect([peer.frames.includes(PING), peer.closed]).toEqual([true, false]);
    await pass([hops.client, hops.server], 4);
    await until(() => peer.closed, "the connection is closed");
    await until(() => asked.closed, "the application hears of it");
  });

  test("that answers them stays, however long it says nothing else", async () => {
    const { hops, ports } = await start();
    const session = connectHttp2(`http://127.0.0.1:${ports[side]}`);
    open.push({ close: () => session.destroy() });
    await once(session, "connect");
    await pass([hops.client, hops.server], 40);
    const stream = session.request({ ":path": "/" });
    const [head] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(head[":status"]).toBe(200);
  });
});

describe("an endpoint with keep-alive", () => {
  test("that answers no PING is given up, and what it was asked is 502", async () => {
    let connections = 0;
    const server = createTcp((socket) => {
      connections++;
      socket.on("error", () => {});
      // Says its SETTINGS and takes whatever comes.
      socket.write(Buffer.concat([frame.settings(), frame.settingsAck()]));
      socket.resume();
    });
    open.push(server);
    const endpoint: Endpoint = {
      ...(await endpointOf(server)),
      hint: "h2",
      http2: {
        keepAlive: { intervalMs: 10_000, timeoutMs: 3_000, whileIdle: true },
        initialStreamWindowBytes: undefined,
        initialConnectionWindowBytes: undefined,
        adaptiveFlowControl: false,
        maxConcurrentResetStreams: undefined,
        maxFrameBytes: undefined,
        maxSendBufferBytes: undefined,
      },
    };
    const balanced = await Balanced.start(forwardPolicy("endpoint", endpoint), {});
    open.push(balanced);
    const answer = ask(balanced.port);
    await until(() => connections === 1, "it is asked");
    await pass([balanced.proxy], 15);
    expect((await answer).status).toBe(502);
    await until(() => connections > 1, "it is tried again");
  });
});
