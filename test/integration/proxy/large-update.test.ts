/**
 * Updates of 5,000 endpoints while requests go on: real hub, real worker in its thread, mTLS to a real inbound worker. What
 * counts is the CPU time of the longest turn of the worker's loop. `PRINT_TURNS=1` prints it.
 */
import { once } from "node:events";
import { Agent, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Worker } from "node:worker_threads";
import { toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { letWorkerHeapsGrow } from "../../../src/agent/worker-heap.ts";
import { Authority } from "../../../src/lab/pki.ts";
import { destination } from "../../../src/proto/index.ts";
import { discoveryKey } from "../../../src/proxy/core/messages.ts";
import { Hub } from "../../../src/proxy/discovery/index.ts";
import { defaultInboundPolicy, onlyBackend } from "../../../src/proxy/policy/index.ts";
import { MemoryStore } from "../../support/answer-store.ts";
import { ask, backendOf, routeTo } from "../../support/balanced.ts";
import { type FakeCall, FakeGrpcClient } from "../../support/grpc-client.ts";
import { CLIENT_NAME, identityFrom, SERVER_NAME, SERVER_URI } from "../../support/hops.ts";
import type { Measure, Measured } from "../../support/measured-worker.ts";
import { seconds, tcpAddress, type UpdateInit, update } from "../../support/mesh-messages.ts";
import { listeningDescriptor, PoolUnderTest } from "../../support/pools.ts";
import { until } from "../../support/until.ts";

const COUNT = 5_000;
const PATH = "a.b:80";
/** What the issue allows; half of it is usual, see bench/RESULTS.md. */
const LONGEST_MS = 20;
/** A first time compiles code, and the collector may run within a turn: the best of so many is what the code costs. */
const ROUNDS = 3;
const PER_SECOND = 100;

const app = createServer((_req, res) => res.end("ok"));
const grpc = new FakeGrpcClient();
const agent = new Agent({ keepAlive: true, maxSockets: 8 });
let worker: Worker;
let pools: PoolUnderTest[] = [];
let hub: Hub;
let port = 0;
let stream: FakeCall;
let endpointOf: (ip: string, weight?: number) => object;
let appPort = 0;
const asked = { well: 0, badly: 0 };
let asking: NodeJS.Timeout | undefined;

const bytes = (init: UpdateInit) => Buffer.from(toBinary(destination.UpdateSchema, update(init)));
const add = (addrs: object[]) =>
  bytes({ update: { case: "add", value: { addrs, metricLabels: { service: "web", namespace: "shop" } } } });
const remove = (ips: readonly string[]) =>
  bytes({ update: { case: "remove", value: { addrs: ips.map((ip) => tcpAddress(ip, appPort)) } } });
const block = (n: number) => Array.from({ length: COUNT }, (_, i) => `127.${n}.${i >> 8}.${i & 255}`);

beforeAll(async () => {
  app.listen(0, "0.0.0.0");
  await once(app, "listening");
  appPort = (app.address() as AddressInfo).port;
  const authority = await Authority.root("root.linkerd.cluster.local");
  const inbound = await listeningDescriptor("0.0.0.0");
  const outbound = await listeningDescriptor();
  port = outbound.port;
  const server = new PoolUnderTest(
    inbound.fd,
    "inbound",
    1,
    inbound.port,
    await identityFrom(authority, SERVER_NAME, SERVER_URI),
    ({ type, target }) =>
      type === "discovery.watch"
        ? {
            type: "discovery.inbound",
            key: discoveryKey(target),
            value: defaultInboundPolicy("all-authenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
          }
        : undefined,
  );
  hub = new Hub({
    destination: () => grpc,
    policy: () => grpc,
    contextToken: () => "",
    policyWorkload: () => "",
    profileNetworks: () => [],
    clock: { now: () => performance.now(), wallMs: () => Date.now() },
    timers: {
      after(ms, callback) {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
    },
    rng: Math.random,
    store: new MemoryStore(),
    log: { error() {}, warn() {}, info() {}, debug() {} },
  });
  const policy = routeTo(onlyBackend(backendOf(PATH)));
  const client = new PoolUnderTest(
    outbound.fd,
    "outbound",
    1,
    4143,
    await identityFrom(authority, CLIENT_NAME),
    {
      attachWorker(send) {
        const side = hub.attachWorker(send);
        return {
          receive(request) {
            if (request.target.kind === "endpoints") side.receive(request);
            else if (request.type === "discovery.watch")
              send({
                type: "discovery.outbound",
                key: discoveryKey(request.target),
                value: { policy, profile: undefined },
              });
          },
          detach: () => side.detach(),
        };
      },
    },
    (start) => {
      letWorkerHeapsGrow();
      worker = new Worker(new URL("../../support/measured-worker.ts", import.meta.url), { workerData: start });
      return worker;
    },
  );
  pools = [client, server];
  await Promise.all(pools.map((pool) => pool.ready()));
  endpointOf = (ip, weight = 10_000) => ({
    addr: tcpAddress(ip, appPort),
    weight,
    metricLabels: { pod: `web-${ip}`, deployment: "web", serviceaccount: "web", zone: "a", zone_locality: "unknown" },
    tlsIdentity: {
      strategy: { case: "uriLikeIdentity", value: { uri: SERVER_URI } },
      serverName: { name: SERVER_NAME },
    },
    protocolHint: {
      protocol: { case: "h2", value: {} },
      opaqueTransport: { inboundPort: inbound.port },
    },
    http2: { keepAlive: { interval: seconds(10), timeout: seconds(3), whileIdle: true } },
  });
  const one = () =>
    void ask(port, { agent }).then(
      ({ status }) => void (status === 200 ? asked.well++ : asked.badly++),
      () => void asked.badly++,
    );
  one();
  await until(() => grpc.open("Get").length > 0, "endpoints are asked for");
  stream = grpc.last("Get");
  stream.send(add([endpointOf("127.9.0.1"), endpointOf("127.9.0.2")]));
  await until(() => asked.well > 0, "a request is answered");
  asking = setInterval(one, 1_000 / PER_SECOND);
}, 60_000);

afterAll(async () => {
  clearInterval(asking);
  agent.destroy();
  hub.close();
  for (const pool of pools) await pool.stop();
  app.closeAllConnections();
  app.close();
});

/** @returns CPU time of the longest turn from `act` until the worker has taken all in, ms. */
async function longest(act: () => void, isKnown: () => boolean): Promise<number> {
  const tell = (message: Measure) => worker.postMessage(message);
  tell({ type: "measure.begin" });
  act();
  await until(isKnown, "the hub knows");
  // What was said has been taken in, and what is to be connected is; the turns until then count.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const measured = new Promise<Measured>((resolve) => {
    worker.on("message", function take(message: Measured) {
      if (message.type !== "measured") return;
      worker.off("message", take);
      resolve(message);
    });
  });
  tell({ type: "measure.end" });
  return (await measured).cpuMs[0] ?? Number.NaN;
}

test("stop a worker's loop for no longer than 20 ms", { timeout: 120_000 }, async () => {
  const [one, two] = [block(1), block(2)];
  const has = (ip = "") => hub.endpoints(PATH)?.get(`${ip}:${appPort}`);
  const updates = {
    add: { parts: [add(one.map((ip) => endpointOf(ip)))], isKnown: () => has(one.at(-1)) !== undefined },
    reweigh: {
      parts: [add(one.map((ip) => endpointOf(ip, 20_000)))],
      isKnown: () => has(one.at(-1))?.weight === 20_000,
    },
    replace: {
      parts: [add(two.map((ip) => endpointOf(ip))), remove(one)],
      isKnown: () => has(two.at(-1)) !== undefined && has(one.at(-1)) === undefined,
    },
    remove: { parts: [remove(two)], isKnown: () => hub.endpoints(PATH)?.size === 2 },
  };
  const best = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, { parts, isKnown }] of Object.entries(updates)) {
      const ms = await longest(() => {
        for (const part of parts) stream.send(part);
      }, isKnown);
      if (process.env["PRINT_TURNS"] !== undefined) console.log(round, name, ms.toFixed(1));
      best.set(name, Math.min(ms, best.get(name) ?? Number.POSITIVE_INFINITY));
    }
  for (const [name, ms] of best) expect(ms, `longest turn in "${name}"`).toBeLessThan(LONGEST_MS);
  expect(asked.badly).toBe(0);
  expect(asked.well).toBeGreaterThan(ROUNDS * 4 * PER_SECOND * 0.3);
});
