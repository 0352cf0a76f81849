/**
 * A Service whose endpoints come and go a thousand times a second, beside one that stays: real hub, real proxy, messages
 * through bytes and clones as between threads. `FLAP_SECONDS=60` runs it at full length.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { toBinary } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { Authority } from "../../../src/lab/pki.ts";
import { destination } from "../../../src/proto/index.ts";
import type { DiscoveryRequest } from "../../../src/proxy/core/messages.ts";
import { Hub, type HubWorker } from "../../../src/proxy/discovery/index.ts";
import {
  bestOf,
  catchAllOutbound,
  defaultRef,
  type OutboundPolicy,
  onlyBackend,
} from "../../../src/proxy/policy/index.ts";
import { MemoryStore } from "../../support/answer-store.ts";
import { ask, backendOf, routeTo } from "../../support/balanced.ts";
import { FakeGrpcClient } from "../../support/grpc-client.ts";
import { CLIENT_NAME, HopProxy, identityFrom } from "../../support/hops.ts";
import { add, tcpAddress, type UpdateInit, update } from "../../support/mesh-messages.ts";
import { until } from "../../support/until.ts";

const SECONDS = Number(process.env["FLAP_SECONDS"] ?? 4);
/** Without updates, for comparison. */
const QUIET_SECONDS = 2;
const UPDATES_PER_SECOND = 1_000;
/** Addresses that flap. None of them answers. */
const FLAPPING = 200;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes in use once everything that can go has gone; callbacks of the collector get their turn. */
async function heapBytes(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return process.memoryUsage().heapUsed;
}

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

test.each([
  ["fewer than are kept connected: places go to those that flap", 20],
  ["more than are kept connected: those that flap are never tried", 70],
])(
  "costs little time, no memory, and no request to endpoints that stay, %s",
  { timeout: 60_000 + SECONDS * 4_000 },
  async (_, staying) => {
    const app = createServer((_req, res) => res.end("ok"));
    app.listen(0, "0.0.0.0");
    await once(app, "listening");
    open.push({
      close() {
        app.closeAllConnections();
        app.close();
      },
    });
    const at = (app.address() as AddressInfo).port;
    const to = (name: string, path: string) => {
      const route = catchAllOutbound(defaultRef(name), onlyBackend(backendOf(path)));
      const match = {
        kind: "http",
        method: undefined,
        path: { kind: "prefix", prefix: `/${name}` },
        headers: [],
        query: [],
      } as const;
      return { ...route, rules: route.rules.map((rule) => ({ ...rule, matches: [match] })) };
    };
    const http = bestOf([to("stays", "a:80"), to("flaps", "b:80")]);
    const policy: OutboundPolicy = { ...routeTo(onlyBackend(backendOf("a:80"))), http1: http, http2: http };

    const grpc = new FakeGrpcClient();
    const timers = {
      after: (ms: number, callback: () => void) => {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
    };
    const hub = new Hub({
      destination: () => grpc,
      policy: () => grpc,
      contextToken: () => "",
      policyWorkload: () => "",
      profileNetworks: () => [],
      clock: { now: () => performance.now(), wallMs: () => Date.now() },
      timers,
      rng: Math.random,
      store: new MemoryStore(),
      log: { error() {}, warn() {}, info() {}, debug() {} },
    });
    open.push(hub);
    const answer = (request: DiscoveryRequest) => {
      const { target } = request;
      if (target.kind === "endpoints") {
        side.receive(structuredClone(request));
        return undefined;
      }
      if (request.type !== "discovery.watch" || target.kind !== "outbound") return undefined;
      const key = `outbound ${target.ip}:${target.port}`;
      return { type: "discovery.outbound", key, value: { policy, profile: undefined } } as const;
    };
    const proxy = new HopProxy(await identityFrom(await Authority.root("root"), CLIENT_NAME), answer, {});
    open.push(proxy);
    // Not kept: this test looks at memory.
    proxy.onEnded = () => {};
    const side: HubWorker = hub.attachWorker((message) => proxy.tell(structuredClone(message)));
    const port = await proxy.listenOutbound();

    const bytes = (init: UpdateInit) => Buffer.from(toBinary(destination.UpdateSchema, update(init)));
    const h2 = { protocolHint: { protocol: { case: "h2" as const, value: {} } } };
    const address = (ip: string, port: number, hint = {}) => ({ addr: tcpAddress(ip, port), weight: 10_000, ...hint });
    const flapping = Array.from({ length: FLAPPING }, (_, i) => ({
      // Nobody listens at the discard port: what is kept connected is tried, and fails.
      add: bytes(add(address(`127.0.1.${i}`, 9, h2))),
      remove: bytes({ update: { case: "remove", value: { addrs: [tcpAddress(`127.0.1.${i}`, 9)] } } }),
    }));
    const asking = Promise.all([ask(port, { path: "/stays" }), ask(port, { path: "/flaps" })]);
    const calls = await until(
      () => (grpc.open("Get").length === 2 ? grpc.open("Get") : undefined),
      "both are asked for",
    );
    const stays = Array.from({ length: staying }, (_, i) => address(`127.0.2.${i + 1}`, at));
    const one = bytes(add(...stays));
    for (const call of calls) call.send(one);
    expect((await asking).map(({ status }) => status)).toEqual([200, 200]);
    const flaps = calls.find((call) => call.requestBytes.includes("b:80"));
    if (flaps === undefined) throw new Error("nobody asks for b:80");

    /** Requests to endpoints that stay, for a while, with updates or without. @returns CPU seconds, and who failed. */
    const run = async (seconds: number, perSecond: number): Promise<{ cpu: number; failed: number; asked: number }> => {
      const began = performance.now();
      const cpu = process.cpuUsage();
      let sent = 0;
      const timer = setInterval(() => {
        for (const due = ((performance.now() - began) / 1_000) * perSecond; sent < due; sent++) {
          const each = flapping[Math.floor(sent / 2) % FLAPPING];
          // Every address comes back half a round after it went: half of them are there at any time.
          const other = flapping[(Math.floor(sent / 2) + FLAPPING / 2) % FLAPPING];
          flaps.send((sent % 2 === 0 ? each?.add : other?.remove) as Buffer);
        }
      }, 5);
      let failed = 0;
      let asked = 0;
      while (performance.now() - began < seconds * 1_000) {
        const next = began + asked * 20 - performance.now();
        await new Promise((resolve) => setTimeout(resolve, Math.max(1, next)));
        const { status } = await ask(port, { path: asked % 2 === 0 ? "/stays" : "/flaps" });
        asked++;
        if (status !== 200) failed++;
      }
      clearInterval(timer);
      if (perSecond > 0) expect(sent).toBeGreaterThan(seconds * perSecond * 0.9);
      const { user, system } = process.cpuUsage(cpu);
      return { cpu: (user + system) / 1e6, failed, asked };
    };

    await run(1, UPDATES_PER_SECOND);
    const before = await heapBytes();
    const quiet = await run(QUIET_SECONDS, 0);
    const busy = await run(SECONDS, UPDATES_PER_SECOND);
    const grown = (await heapBytes()) - before;
    const share = busy.cpu / SECONDS - quiet.cpu / QUIET_SECONDS;
    if (process.env["FLAP_SECONDS"] !== undefined)
      console.log(
        JSON.stringify({ staying, seconds: SECONDS, share, grownBytes: grown, asked: busy.asked, failed: busy.failed }),
      );
    expect([quiet.failed, busy.failed]).toEqual([0, 0]);
    expect(busy.asked).toBeGreaterThan(10 * SECONDS);
    expect(share).toBeLessThan(0.3);
    // The same after four seconds and after a minute. Two thousand endpoints that nobody let go are five megabytes.
    expect(grown).toBeLessThan(3_000_000);
  },
);
