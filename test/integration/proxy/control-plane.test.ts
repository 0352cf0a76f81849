/**
 * The inbound side while its control plane is down, comes back, goes away again, talks nonsense, or says nothing: real
 * gRPC, the real hub, the real proxy. The configured default policy is `deny`.
 */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { openAnswerStore } from "../../../src/agent/answer-store.ts";
import { Authority } from "../../../src/lab/pki.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { type AnswerStore, Hub, NO_STORE, type Timers } from "../../../src/proxy/discovery/index.ts";
import { HopProxy, identityFrom, SERVER_NAME } from "../../support/hops.ts";
import { anyone, defaultMeta, detectServer, meshed, type ServerInit } from "../../support/mesh-messages.ts";
import { NONSENSE, PolicyServer, policy, type Say } from "../../support/policy-server.ts";
import { until } from "../../support/until.ts";

/** Not 127.0.0.1: that one is exempt from every policy of the control plane. */
const CALLER = "127.0.0.2";

const REFUSED = "ECONNRESET";

const timers: Timers = {
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
const clock = { now: () => performance.now(), wallMs: () => Date.now() };

let identity: WorkloadIdentity;
beforeAll(async () => {
  identity = await identityFrom(await Authority.root("root"), SERVER_NAME);
});
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** `/foo` is for everybody, `/bar` for somebody else. */
const FOO_NOT_BAR: ServerInit = detectServer({
  protocol: {
    kind: {
      case: "detect",
      value: { timeout: { seconds: 10n }, httpRoutes: [route("/foo", anyone), route("/bar", meshed("other.ns"))] },
    },
  },
  authorizations: [],
});
const OPAQUE: ServerInit = detectServer({ protocol: { kind: { case: "opaque", value: {} } } });

function route(path: string, authorization: typeof anyone) {
  return {
    metadata: defaultMeta(path.slice(1)),
    authorizations: [authorization],
    rules: [{ matches: [{ path: { kind: { case: "prefix" as const, value: path } } }] }],
  };
}

/** Applications, each on a port of its own. Tells what reached them. */
async function applications(count: number): Promise<{ ports: number[]; reached: number[] }> {
  const reached: number[] = [];
  const ports: number[] = [];
  for (let i = 0; i < count; i++) {
    const app = createServer((incoming, response) => {
      reached.push(incoming.socket.localPort ?? 0);
      response.end("the application");
    });
    ports.push(await listening(app));
    closing.push(() => app.closeAllConnections());
  }
  return { ports, reached };
}

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function controller(): Promise<PolicyServer> {
  const server = new PolicyServer();
  await server.start();
  closing.push(() => server.kill());
  return server;
}

/** An agent: its hub, and the proxy with one intercepted port each. */
async function agent(server: PolicyServer, ports: readonly number[], known: readonly number[], store: AnswerStore) {
  const grpc = server.client();
  const hub = new Hub({
    destination: () => grpc,
    policy: () => grpc,
    contextToken: () => "",
    policyWorkload: () => '{"ns":"shop","external_workload":"vm"}',
    profileNetworks: () => [],
    clock,
    timers,
    rng: Math.random,
    store,
    log: { error() {}, warn() {}, info() {}, debug() {} },
  });
  hub.keepInbound(known);
  // The worker is another thread: what the hub says arrives later, however soon.
  const side = hub.attachWorker((message) => setImmediate(() => proxy.tell(structuredClone(message))));
  const proxy: HopProxy = new HopProxy(
    identity,
    (asked) => {
      side.receive(asked);
      return undefined;
    },
    {},
  );
  await proxy.listenInbound(true);
  const to = new Map<number, number>();
  for (const port of ports) to.set(port, await proxy.listenIntercepted({ ip: "127.0.0.1", port }));
  const close = () => {
    proxy.close();
    hub.close();
    grpc.close();
  };
  closing.push(close);
  return { hub, proxy, close, at: (port: number | undefined) => to.get(port ?? 0) ?? 0 };
}

/** A client that keeps its connection: `STATUS PORT` of each answer, or the error's code. */
function keepAlive(port: number): (path: string) => Promise<string> {
  const kept = new Agent({ keepAlive: true, maxSockets: 1 });
  closing.push(() => kept.destroy());
  return (path) => ask(port, path, kept);
}

function ask(port: number, path: string, kept?: Agent): Promise<string> {
  return new Promise((resolve) => {
    const options = { host: "127.0.0.1", localAddress: CALLER, port, path, agent: kept ?? false };
    const asked = request(options, (answer) => {
      const { localPort } = answer.socket;
      answer
        .resume()
        .on("end", () => resolve(kept === undefined ? `${answer.statusCode}` : `${answer.statusCode} ${localPort}`));
    });
    // Whichever comes first, its writing or our reset.
    asked.on("error", ({ code = "" }: NodeJS.ErrnoException) => resolve(code === "EPIPE" ? REFUSED : code));
    asked.end();
  });
}

test("a worker's first connection to a port, and the first after a long time, is judged by what the hub knows", async () => {
  const server = await controller();
  const { ports, reached } = await applications(1);
  const [known = 0] = ports;
  server.say(known, policy(FOO_NOT_BAR));
  const { at, hub, proxy } = await agent(server, ports, [known], NO_STORE);
  await until(() => hub.status()[0]?.connected, "the policy is heard");
  expect(proxy.discovery.size).toBe(0);
  expect(await ask(at(known), "/foo")).toBe("200");
  await until(() => {
    proxy.clock.skip(91_000);
    proxy.inbound?.expire(proxy.clock.now());
    proxy.discovery.expire(proxy.clock.now());
    return proxy.discovery.size === 0;
  }, "the worker forgets the port");
  expect(await ask(at(known), "/bar")).toBe("403");
  expect(reached).toEqual([known]);
});

describe("a control plane that is down at start", () => {
  test("leaves ports of which nothing was ever heard to the default policy, until it is there", async () => {
    const server = await controller();
    server.kill();
    const { ports, reached } = await applications(2);
    const [known, unknown] = ports;
    const { at } = await agent(server, ports, [known ?? 0], NO_STORE);
    expect([await ask(at(known), "/foo"), await ask(at(unknown), "/foo")]).toEqual([REFUSED, REFUSED]);
    expect(reached).toEqual([]);
    for (const port of ports) server.say(port, policy(FOO_NOT_BAR));
    await server.start();
    for (const port of ports) await until(async () => (await ask(at(port), "/foo")) === "200", "the policy is heard");
    expect([await ask(at(known), "/bar"), await ask(at(unknown), "/")]).toEqual(["403", "404"]);
  });

  test("is not needed where an earlier agent has stored what it said", async () => {
    const directory = mkdtempSync(join(tmpdir(), "answers-"));
    closing.push(() => rmSync(directory, { recursive: true }));
    const store = () => openAnswerStore(directory, { error() {}, warn() {}, info() {}, debug() {} });
    const server = await controller();
    const { ports } = await applications(2);
    const [known, unknown] = ports;
    server.say(known ?? 0, policy(FOO_NOT_BAR));
    const before = await agent(server, ports, [known ?? 0], store());
    await until(async () => (await ask(before.at(known), "/foo")) === "200", "the policy is heard");
    before.close();
    server.kill();

    const after = await agent(server, ports, [known ?? 0], store());
    // The first connection of all: nothing has to be waited for.
    expect(await ask(after.at(known), "/foo")).toBe("200");
    expect([await ask(after.at(known), "/bar"), await ask(after.at(known), "/")]).toEqual(["403", "404"]);
    expect(await ask(after.at(unknown), "/foo")).toBe(REFUSED);
    const [entry] = after.hub.status();
    expect(entry).toMatchObject({ key: `inbound ${known}`, source: "stored", connected: false, state: "ready" });
    expect(entry?.ageMs).toBeGreaterThanOrEqual(0);

    // What it says now outranks what it said.
    server.say(known ?? 0, policy(detectServer()));
    await server.start();
    await until(async () => (await ask(after.at(known), "/bar")) === "200", "the new policy is heard");
    expect(after.hub.status()[0]).toMatchObject({ source: "live", connected: true });
  });
});

describe("a control plane that", () => {
  test("goes away changes nothing for known ports, and unknown ones fail closed", async () => {
    const server = await controller();
    const { ports } = await applications(2);
    const [known, unknown] = ports;
    const echo = createTcpServer((socket: Socket) => socket.on("error", () => {}).pipe(socket));
    const opaque = await listening(echo);
    server.say(known ?? 0, policy(FOO_NOT_BAR));
    server.say(opaque, policy(OPAQUE));
    const { at, hub } = await agent(server, [...ports, opaque], [known ?? 0, opaque], NO_STORE);
    const kept = keepAlive(at(known));
    const first = await until(async () => {
      const answer = await kept("/foo");
      return answer.startsWith("200") && answer;
    }, "the policy is heard");
    await until(() => hub.status().every(({ connected }) => connected), "both ports are known");
    const bytes = connect({ host: "127.0.0.1", localAddress: CALLER, port: at(opaque) });
    closing.push(() => bytes.destroy());
    bytes.write("a");
    await once(bytes, "data");

    server.kill();
    await until(() => hub.status().every(({ connected }) => !connected), "its absence is noticed");
    for (let i = 0; i < 10; i++) {
      expect([await kept("/foo"), await ask(at(known), "/foo"), await ask(at(known), "/bar")]).toEqual([
        first,
        "200",
        "403",
      ]);
    }
    bytes.write("b");
    expect(String((await once(bytes, "data"))[0])).toBe("b");
    expect(await ask(at(unknown), "/foo")).toBe(REFUSED);

    // It returns with another opinion, which holds on the connections that are open.
    server.say(known ?? 0, policy(detectServer({ authorizations: [meshed("other.ns")] })));
    server.say(opaque, policy({ ...OPAQUE, authorizations: [] }));
    const cut = once(bytes, "close");
    await server.start();
    await until(async () => (await kept("/foo")) === first.replace("200", "403"), "denied on the open connection");
    await cut;
  });

  test("flaps costs no request", async () => {
    const server = await controller();
    const { ports, reached } = await applications(1);
    const [known] = ports;
    server.say(known ?? 0, policy(FOO_NOT_BAR));
    const { at, hub } = await agent(server, ports, [known ?? 0], NO_STORE);
    await until(() => hub.status()[0]?.connected, "the policy is heard");
    const kept = keepAlive(at(known));
    const answers = new Map<string, number>();
    let flapping = true;
    const asking = (async () => {
      while (flapping)
        for (const answer of [await kept("/foo"), await ask(at(known), "/bar")])
          answers.set(answer, (answers.get(answer) ?? 0) + 1);
    })();
    // Each time it is asked again a little later: four of them take two seconds.
    for (let i = 0; i < 4; i++) {
      server.kill();
      await until(() => !hub.status()[0]?.connected, "its absence is noticed");
      await server.start();
      await until(() => hub.status()[0]?.connected, "its return is noticed");
    }
    flapping = false;
    await asking;
    // One connection all the time, and the same two answers.
    expect([...answers.keys()].map((answer) => answer.split(" ")[0]).sort()).toEqual(["200", "403"]);
    expect(reached.length).toBe([...answers].find(([answer]) => answer.startsWith("200"))?.[1]);
  });

  const garbage: [string, Say][] = [
    ["bytes that are no message", NONSENSE],
    ["an unknown status", { kind: "status", code: 77 as status }],
    ["an internal error", { kind: "status", code: status.INTERNAL }],
    ["that the port is unknown", { kind: "status", code: status.NOT_FOUND }],
    ["that the question is wrong", { kind: "status", code: status.INVALID_ARGUMENT }],
    ["nothing and hangs up", { kind: "hang up" }],
  ];
  test.each(garbage)("answers %s changes nothing for known ports, and unknown ones fail closed", async (_, say) => {
    const server = await controller();
    const { ports, reached } = await applications(2);
    const [known = 0, unknown = 0] = ports;
    server.say(known, policy(FOO_NOT_BAR));
    server.say(unknown, say);
    const { at, hub } = await agent(server, ports, [known], NO_STORE);
    await until(async () => (await ask(at(known), "/foo")) === "200", "the policy is heard");
    const kept = keepAlive(at(known));
    const first = await kept("/foo");
    server.say(known, say);
    await until(() => !hub.status()[0]?.connected, "it is not an answer");
    expect(await ask(at(unknown), "/foo")).toBe(REFUSED);
    await until(() => (server.asked.get(unknown) ?? 0) > 0, "the unknown port was asked about");
    expect([await kept("/foo"), await ask(at(known), "/foo"), await ask(at(known), "/bar")]).toEqual([
      first,
      "200",
      "403",
    ]);
    expect(await ask(at(unknown), "/foo")).toBe(REFUSED);
    expect(new Set(reached)).toEqual(new Set([known]));
  });

  const senseless: [string, ServerInit][] = [
    ["no labels", { ...FOO_NOT_BAR, labels: {} }],
    ["a protocol that nobody knows", { authorizations: [anyone], labels: { name: "x" } }],
    [
      "an authorization that says for whom, but not who",
      { ...FOO_NOT_BAR, authorizations: [{ ...anyone, authentication: {} }] },
    ],
    ["an authorization without networks", { ...FOO_NOT_BAR, authorizations: [{ ...anyone, networks: [] }] }],
  ];
  test.each(senseless)("means nothing by its policy (%s) admits nobody, until it does", async (_, init) => {
    const server = await controller();
    const { ports } = await applications(1);
    const [known = 0] = ports;
    server.say(known, policy(FOO_NOT_BAR));
    const { at } = await agent(server, ports, [known], NO_STORE);
    await until(async () => (await ask(at(known), "/foo")) === "200", "the policy is heard");
    server.say(known, policy(init));
    await until(async () => (await ask(at(known), "/foo")) === "403", "nobody is admitted");
    server.say(known, policy(FOO_NOT_BAR));
    await until(async () => (await ask(at(known), "/foo")) === "200", "it makes sense again");
  });

  test("says nothing about one port holds up no other", async () => {
    const server = await controller();
    const { ports } = await applications(2);
    const [slow = 0, quick = 0] = ports;
    server.say(slow, { kind: "silence" });
    server.say(quick, policy(FOO_NOT_BAR));
    const { at } = await agent(server, ports, [], NO_STORE);
    expect(await ask(at(slow), "/foo")).toBe(REFUSED);
    await until(async () => (await ask(at(quick), "/foo")) === "200", "the other port's policy is heard");
    expect(await ask(at(slow), "/foo")).toBe(REFUSED);
    server.say(slow, policy(FOO_NOT_BAR));
    await until(async () => (await ask(at(slow), "/foo")) === "200", "the slow answer is heard");
  });
});
