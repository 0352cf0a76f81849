/**
 * What decisions cost: `node --expose-gc bench/micro/decide.ts`. Route choice and authorization per request, the choice
 * of an endpoint, and a 5,000-endpoint update on its way from the wire to a balancer. Prints the median of several
 * rounds, and the bytes that the heap grew by per operation.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { destination } from "../../src/proto/index.ts";
import { EndpointSet } from "../../src/proxy/balance/index.ts";
import { parseIp } from "../../src/proxy/core/address.ts";
import { type Endpoint, plainEndpoint } from "../../src/proxy/core/endpoint.ts";
import { HeaderList, headerName } from "../../src/proxy/core/header.ts";
import type { RequestHead } from "../../src/proxy/core/http.ts";
import { EndpointTable } from "../../src/proxy/discovery/endpoints.ts";
import { compilePattern } from "../../src/proxy/discovery/index.ts";
import {
  bestOf,
  type Client,
  catchAllOutbound,
  decideInbound,
  decideOutbound,
  defaultInboundPolicy,
  defaultRef,
  type OutboundRoute,
  RateBuckets,
  RateLimiter,
} from "../../src/proxy/policy/index.ts";

const ROUNDS = 9;
const ROUND_MS = 100;

function measure(name: string, run: () => void): void {
  for (let i = 0; i < 20_000; i++) run();
  const figures: number[] = [];
  const grown: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    // The young generation takes some megabytes before a collection: the first calls tell what is allocated.
    for (let i = 0; i < 1_000; i++) run();
    grown.push((process.memoryUsage().heapUsed - heap) / 1_000);
    const start = performance.now();
    let count = 0;
    while (performance.now() - start < ROUND_MS) for (let i = 0; i < 100; i++, count++) run();
    figures.push(((performance.now() - start) * 1e6) / count);
  }
  print(name, median(figures), "ns", median(grown));
}

function once(name: string, run: () => void): void {
  const figures: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    run();
    figures.push(performance.now() - start);
  }
  print(name, median(figures), "ms", undefined);
}

function median(figures: number[]): number {
  return figures.toSorted((a, b) => a - b)[figures.length >> 1] as number;
}

function print(name: string, figure: number, unit: string, bytes: number | undefined): void {
  const grown = bytes === undefined ? "" : `${Math.round(bytes).toString().padStart(7)} B`;
  console.log(`${name.padEnd(58)} ${figure.toFixed(unit === "ns" ? 0 : 2).padStart(8)} ${unit} ${grown}`);
}

function headers(...fields: readonly (readonly [string, string])[]): HeaderList {
  const list = new HeaderList();
  for (const [text, value] of fields) {
    const name = headerName(text);
    if (name !== undefined) list.add(name, value);
  }
  return list;
}

const head: RequestHead = {
  method: "GET",
  scheme: "http",
  authority: "web.shop.svc.cluster.local:8080",
  path: "/api/v1/users/42/orders?limit=10",
  form: "origin",
  version: "1.1",
  headers: headers(["host", "web"], ["user-agent", "bench"], ["accept", "*/*"], ["x-team", "blue"]),
  protocol: undefined,
};
const client: Client = {
  ip: parseIp("10.1.2.3") ?? { version: 4, words: [0] },
  tls: "identity",
  id: "web.shop.serviceaccount.identity.linkerd.cluster.local",
};

const open = defaultInboundPolicy("all-authenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] });
measure("inbound: default policy, identity by suffix", () => decideInbound(open, head, client));

const plain = bestOf([catchAllOutbound(defaultRef("http"), { kind: "empty" })]);
measure("outbound: one catch-all route", () => decideOutbound(plain, head));

const prefixed = (n: number): OutboundRoute => {
  const route = catchAllOutbound(defaultRef(`route-${n}`), { kind: "empty" });
  const prefix = n === 19 ? "/api/v1/users" : `/api/v${n + 2}`;
  const match = { kind: "http", method: undefined, path: { kind: "prefix", prefix }, headers: [], query: [] } as const;
  return { ...route, rules: route.rules.map((rule) => ({ ...rule, matches: [match] })) };
};
const twenty = bestOf(Array.from({ length: 20 }, (_, n) => prefixed(n)));
measure("outbound: twenty routes by prefix", () => decideOutbound(twenty, head));

const matches = compilePattern("/api/v[0-9]+/users/[0-9]+/.*");
const route = catchAllOutbound(defaultRef("regex"), { kind: "empty" });
const pattern = { source: "", ...(matches && { matches }) };
const byRegex = bestOf([
  {
    ...route,
    rules: route.rules.map((rule) => ({
      ...rule,
      matches: [{ kind: "http", method: undefined, path: { kind: "regex", pattern }, headers: [], query: [] }],
    })),
  },
]);
measure("outbound: one route by regular expression", () => decideOutbound(byRegex, head));

const limiter = new RateLimiter(
  { ref: undefined, total: 1e9, perIdentity: 1e9, overrides: [] },
  8080,
  new RateBuckets(),
);
let now = 0;
measure("rate limits: total and per identity", () => {
  now += 0.001;
  limiter.take(client.id, now);
});

const many: Endpoint[] = Array.from({ length: 5_000 }, (_, i) => ({
  ...plainEndpoint({ ip: `10.${i >> 8}.${i & 255}.1`, port: 8080 }),
  labels: { pod: `web-${i}`, deployment: "web", namespace: "shop", serviceaccount: "web", zone: "a" },
}));
function newSet(): EndpointSet<undefined> {
  const set: EndpointSet<undefined> = new EndpointSet<undefined>(
    { added: (slot) => set.setConnected(slot, true), removed: () => {} },
    { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 },
    { kind: "consecutive", maxFailures: 7, backoff: { minMs: 1_000, maxMs: 60_000, jitter: 0.5 } },
  );
  return set;
}
const set = newSet();
set.reset(many, 0);
measure("balance: pick of 5,000, dispatch, measure, classify", () => {
  now += 0.01;
  const slot = set.pick(Math.random, now);
  if (slot === undefined) return;
  set.dispatched(slot);
  set.measured(slot, now, now + 5);
  set.classified(slot, "success", now, Math.random);
});

const id = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const update = create(destination.UpdateSchema, {
  update: {
    case: "add",
    value: {
      metricLabels: { service: "web", namespace: "shop" },
      addrs: many.map((each, i) => ({
        addr: { ip: { ip: { case: "ipv4" as const, value: 0x0a000001 + i * 256 } }, port: 8080 },
        weight: 10_000,
        metricLabels: { ...each.labels },
        tlsIdentity: { strategy: { case: "dnsLikeIdentity" as const, value: { name: id } }, serverName: { name: id } },
        protocolHint: { protocol: { case: "h2" as const, value: {} }, opaqueTransport: { inboundPort: 4143 } },
      })),
    },
  },
});
const bytes = toBinary(destination.UpdateSchema, update);
console.log(`\n5,000 endpoints: ${(bytes.length / 1024).toFixed(0)} KiB on the wire`);
once("main thread: protobuf", () => fromBinary(destination.UpdateSchema, bytes, { readUnknownFields: false }));
once("main thread: to endpoints", () => new EndpointTable().apply(update));
const table = new EndpointTable();
table.apply(update);
once("main thread: the same again, no change", () => {
  table.reconnected();
  table.apply(update);
});
const endpoints = [...table.endpoints.values()];
once("either thread: clone of one part of 500", () => structuredClone(endpoints.slice(0, 500)));
once("worker: one part of 500 into a set", () => newSet().change(endpoints.slice(0, 500), [], 0));
once("worker: all 5,000 into a set", () => newSet().reset(endpoints, 0));
