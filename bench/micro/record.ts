/**
 * What counting a request costs: `node --expose-gc bench/micro/record.ts`. All that the recorder is told of one that is
 * answered with 200, on either side, as `http.ts` of that side tells it.
 */
import { MetricsStore } from "../../src/agent/metrics/index.ts";
import { ExchangeRecorder } from "../../src/agent/recorder.ts";
import { parseIp } from "../../src/proxy/core/address.ts";
import { plainEndpoint } from "../../src/proxy/core/endpoint.ts";
import { HeaderList } from "../../src/proxy/core/header.ts";
import type { RequestHead } from "../../src/proxy/core/http.ts";
import {
  bestOf,
  type Client,
  catchAllOutbound,
  decideInbound,
  decideOutbound,
  defaultInboundPolicy,
  defaultRef,
  makeBackend,
  onlyBackend,
} from "../../src/proxy/policy/index.ts";
import { Exchange, type Peer, type ServerSide } from "../../src/proxy/stack/index.ts";
import { createRuntime } from "../../src/proxy/transport/index.ts";
import { measure } from "./measure.ts";

const log = { error() {}, warn() {}, info() {}, debug() {} };
const runtime = createRuntime(log);
const { clock } = runtime;
const options = { runtime, identity: () => undefined, tapped() {} };
const recorderOf = (direction: "inbound" | "outbound") =>
  new ExchangeRecorder({ ...options, direction, metrics: new MetricsStore(() => performance.now()).registry });

const client: Client = { ip: parseIp("10.0.0.1") ?? fail(), tls: "identity", id: "web.shop", otherNames: [] };
const address = { ip: "10.0.0.1", port: 1 };
const peer: Peer = { address, originalDst: { ip: "10.0.0.2", port: 80 }, client };
const server = { sendResponse() {}, closeAfter() {}, resumeRequest() {} } as unknown as ServerSide;
const request: RequestHead = {
  method: "GET",
  scheme: "http",
  authority: "web.shop",
  path: "/",
  form: "origin",
  version: "1.1",
  headers: new HeaderList(),
  protocol: undefined,
};
const response = { status: 200, version: "1.1" as const, headers: new HeaderList(), reason: undefined };

function fail(): never {
  throw new Error("no address, or no permit");
}

// A worker under load has an exchange at any time. Without one a collection forgets their shape, and compiled code with it.
let latest: Exchange | undefined;
const done = (x: Exchange) => {
  latest = x;
  clock.release?.();
};

const inbound = recorderOf("inbound");
const policy = defaultInboundPolicy("all-authenticated", { detectTimeoutMs: 1, clusterNetworks: [] });
const permit = decideInbound(
  { ...policy, authorizations: [{ ...(policy.authorizations[0] ?? fail()), authentication: { kind: "mesh-tls" } }] },
  request,
  client,
);
if (permit.kind !== "permit") fail();

measure("inbound, a request and its answer", 1, () => {
  const now = clock.hold?.() ?? clock.now();
  const x = new Exchange(server, peer, request, true, now);
  x.permit = permit;
  inbound.permitted(x);
  inbound.sent(x);
  inbound.dispatched(x);
  x.response = response;
  inbound.answering(x);
  inbound.ended(x);
  done(x);
});

const outbound = recorderOf("outbound");
const endpoint = plainEndpoint({ ip: "10.0.0.3", port: 80 });
const load = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 } as const;
const backend = makeBackend(
  defaultRef("svc"),
  defaultRef("svc"),
  { kind: "balancer", path: "a.b:80", load },
  undefined,
);
const choice = decideOutbound(bestOf([catchAllOutbound(defaultRef("r"), onlyBackend(backend))]), request) ?? fail();

measure("outbound, a request and its answer", 1, () => {
  const now = clock.hold?.() ?? clock.now();
  const x = new Exchange(server, peer, request, true, now);
  x.choice = choice;
  x.judge = backend.parent;
  x.backend = backend;
  x.endpoint = endpoint;
  outbound.routed(x);
  outbound.sent(x);
  x.dispatchedAt = now;
  outbound.dispatched(x);
  x.response = response;
  outbound.began(x);
  outbound.answering(x);
  outbound.ended(x);
  done(x);
});

measure("an exchange that nobody counts", 1, () => {
  const x = new Exchange(server, peer, request, true, clock.hold?.() ?? clock.now());
  x.choice = choice;
  x.response = response;
  done(x);
});
process.exit(latest === undefined ? 1 : 0);
