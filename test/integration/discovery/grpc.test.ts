import { Client, credentials, Server, ServerCredentials, type ServerWritableStream, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { destination, grpcService, inbound, outbound } from "../../../src/proto/index.ts";
import { type Cidr, parseCidr } from "../../../src/proxy/core/address.ts";
import { DiscoveryClient, Hub, NO_STORE, type Timers } from "../../../src/proxy/discovery/index.ts";
import { defaultInboundPolicy } from "../../../src/proxy/policy/index.ts";
import { TestLog } from "../../support/log.ts";
import { add, detectServer, podAddr, servicePolicy } from "../../support/mesh-messages.ts";

const timers: Timers = {
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
const clock = { now: () => performance.now(), wallMs: () => Date.now() };
type Call = ServerWritableStream<unknown, unknown>;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Both controllers in one server, answering as the test says. */
async function controllers(answers: { get?: (call: Call) => void; watch?: (call: Call) => void }, port = 0) {
  const server = new Server();
  const none = (call: Call) => call.emit("error", { code: status.NOT_FOUND, details: "unknown" });
  server.addService(grpcService(destination.Destination), { get: answers.get ?? none, getProfile: none });
  server.addService(grpcService(outbound.OutboundPolicies), { watch: answers.watch ?? none });
  server.addService(grpcService(inbound.InboundServerPolicies), {
    watchPort: (call: Call) => call.write(detectServer()),
  });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, actual) =>
      error === null ? resolve(actual) : reject(error),
    );
  });
  closing.push(() => server.forceShutdown());
  return { server, port: bound };
}

function discovery(port: number) {
  const grpc = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
  });
  const hub = new Hub({
    destination: () => grpc,
    policy: () => grpc,
    contextToken: () => "",
    policyWorkload: () => "",
    profileNetworks: () => [parseCidr("10.0.0.0/8") as Cidr],
    clock,
    timers,
    rng: Math.random,
    store: NO_STORE,
    log: new TestLog(),
  });
  const fallback = defaultInboundPolicy("deny", { detectTimeoutMs: 1, clusterNetworks: [] });
  const side = hub.attachWorker((message) => client.receive(structuredClone(message)));
  const client: DiscoveryClient = new DiscoveryClient(
    { postMessage: (request) => side.receive(request) },
    { clock, defaultInbound: () => fallback },
  );
  closing.push(
    () => hub.close(),
    () => grpc.close(),
  );
  return { hub, client };
}

const until = async (what: () => boolean): Promise<void> => {
  const end = performance.now() + 15_000;
  while (!what()) {
    if (performance.now() > end) throw new Error("did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

describe("hub over real gRPC", () => {
  it("hears all three kinds", async () => {
    const { port } = await controllers({
      get: (call) => call.write(add(podAddr("10.0.0.1"))),
      watch: (call) => call.write(servicePolicy()),
    });
    const { client } = discovery(port);
    const handles = [client.inbound(80), client.outbound("203.0.113.1", 80), client.endpoints("a.b:80")];
    await until(() => handles.every(({ state }) => state === "ready"));
    expect(client.endpoints("a.b:80").current.size).toBe(1);
  });

  it("knows a terminal code from one to retry", async () => {
    let asked = 0;
    const { port } = await controllers({
      get: (call) => {
        if (++asked < 3) call.emit("error", { code: status.NOT_FOUND, details: "not yet" });
        else call.write(add(podAddr("10.0.0.1")));
      },
      watch: (call) => call.emit("error", { code: status.INVALID_ARGUMENT, details: "bad workload" }),
    });
    const { client } = discovery(port);
    const target = client.outbound("203.0.113.1", 80);
    const endpoints = client.endpoints("a.b:80");
    await until(() => endpoints.state === "ready" && target.state === "failed");
    expect([target.failure, target.why, asked]).toEqual(["refused", "bad workload", 3]);
  });

  it("keeps everything while the controllers are away, and is whole again within seconds", async () => {
    const answers = { get: (call: Call) => void call.write(add(podAddr("10.0.0.1"))) };
    const first = await controllers(answers);
    const { client, hub } = discovery(first.port);
    const endpoints = client.endpoints("a.b:80");
    await until(() => endpoints.state === "ready");
    first.server.forceShutdown();
    await until(() => hub.status()[0]?.connected === false);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect([endpoints.state, endpoints.current.size]).toEqual(["ready", 1]);
    await controllers({ get: (call) => void call.write(add(podAddr("10.0.0.2"))) }, first.port);
    const back = performance.now();
    await until(() => endpoints.current.has("10.0.0.2:8080"));
    expect(performance.now() - back).toBeLessThan(5_000);
    expect(endpoints.current.size).toBe(1);
  });

  it("takes 5,000 endpoints, and a small change among them", async () => {
    const pods = Array.from({ length: 5_000 }, (_, i) => podAddr(`10.${i >> 8}.${i & 255}.1`));
    let stream: Call | undefined;
    const { port } = await controllers({
      get: (call) => {
        stream = call;
        call.write(add(...pods));
      },
    });
    const { client } = discovery(port);
    const endpoints = client.endpoints("a.b:80");
    await until(() => endpoints.current.size === 5_000);
    let changes = 0;
    endpoints.subscribe({ changed: (more, fewer) => (changes += more.length + fewer.length) });
    stream?.write(add(...pods.slice(0, 4_999), podAddr("10.99.0.1")));
    await until(() => endpoints.current.size === 5_001);
    expect(changes).toBe(1);
  });
});
