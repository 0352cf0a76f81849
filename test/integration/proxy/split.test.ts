import { once } from "node:events";
import { Agent } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer as createTcp } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type Endpoint, plainEndpoint } from "../../../src/proxy/core/endpoint.ts";
import type { Distribution, FailureAccrual } from "../../../src/proxy/policy/index.ts";
import { onlyBackend } from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";
import { seededRng } from "../../support/rng.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

const named = (name: string) => new App((_req, res) => res.end(name));

function split(weights: Readonly<Record<string, number>>): Distribution {
  const backends = Object.entries(weights).map(([path, weight]) => ({ backend: backendOf(path), weight, filters: [] }));
  return { kind: "random-available", backends };
}

async function count(port: number, requests: number): Promise<Record<string, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const seen: Record<string, number> = {};
  let left = requests;
  const work = async () => {
    while (left-- > 0) {
      const { status, body } = await ask(port, { agent });
      const key = status === 200 ? body : String(status);
      seen[key] = (seen[key] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  agent.destroy();
  return seen;
}

async function site(weights: Readonly<Record<string, number>>, silent: readonly string[] = []): Promise<Balanced> {
  const endpoints: Record<string, Awaited<ReturnType<App["listen"]>>[]> = {};
  for (const path of Object.keys(weights)) {
    if (silent.includes(path)) continue;
    const app = named(path);
    open.push(app);
    endpoints[path] = [await app.listen()];
  }
  const balanced = await Balanced.start(routeTo(split(weights)), endpoints);
  open.push(balanced);
  return balanced;
}

/** Sends requests down one connection, all at once; counts the answers by who gave them. */
async function pipelined(port: number, requests: number): Promise<Record<string, number>> {
  const socket = connect(port, "127.0.0.1");
  const seen: Record<string, number> = {};
  let answers = 0;
  let rest = "";
  socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(requests));
  for await (const chunk of socket) {
    const parts = (rest + String(chunk)).split("\r\n\r\n");
    // Each part ends with a head; what follows the last blank line may be half of one.
    rest = parts.pop() ?? "";
    for (const head of parts) {
      const key = /x-who: (\S+)/.exec(head)?.[1] ?? head;
      seen[key] = (seen[key] ?? 0) + 1;
      answers++;
    }
    if (answers >= requests) break;
  }
  socket.destroy();
  return seen;
}

/** An application that says who it is and costs next to nothing. */
async function signpost(name: string): Promise<Endpoint> {
  const answer = `HTTP/1.1 200 OK\r\nx-who: ${name}\r\ncontent-length: 0\r\n\r\n`;
  const server = createTcp((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write(answer));
  });
  open.push(server);
  return endpointOf(server);
}

describe("a weighted split", () => {
  const REQUESTS = 10_000;
  test.each([
    { "a:80": 1, "b:80": 99 },
    { "a:80": 50, "b:80": 50 },
    { "a:80": 5, "b:80": 15, "c:80": 80 },
  ])("of %o keeps 10,000 requests within the binomial bound", async (weights) => {
    const endpoints: Record<string, Endpoint[]> = {};
    for (const path of Object.keys(weights)) endpoints[path] = [await signpost(path)];
    // A fixed seed: what holds once holds always. 3.29 standard deviations hold 99.9 % of all seeds.
    const balanced = await Balanced.start(routeTo(split(weights)), endpoints, seededRng(1));
    open.push(balanced);
    const seen = await pipelined(balanced.port, REQUESTS);
    const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    for (const [path, weight] of Object.entries(weights)) {
      const share = weight / total;
      const bound = 3.29 * Math.sqrt(REQUESTS * share * (1 - share));
      expect(Math.abs((seen[path] ?? 0) - REQUESTS * share), path).toBeLessThanOrEqual(bound);
    }
    expect(Object.values(seen).reduce((sum, n) => sum + n, 0)).toBe(REQUESTS);
  });

  test("takes new weights without a failed request", async () => {
    const balanced = await site({ "a:80": 1, "b:80": 1 });
    const running = count(balanced.port, 600);
    await until(() => balanced.proxy.ended.length > 200, "requests flow");
    balanced.update(routeTo(split({ "a:80": 0, "b:80": 1 })));
    const seen = await running;
    expect((seen["a:80"] ?? 0) + (seen["b:80"] ?? 0)).toBe(600);
    expect(await count(balanced.port, 100)).toEqual({ "b:80": 100 });
  });

  test("gives nothing to a backend that discovery says is empty", async () => {
    const endpoints = named("a:80");
    open.push(endpoints);
    const balanced = await Balanced.start(routeTo(split({ "a:80": 1, "b:80": 9 })), {
      "a:80": [await endpoints.listen()],
      "b:80": [],
    });
    open.push(balanced);
    // The first request sets everything up; what discovery says arrives after it.
    await ask(balanced.port);
    expect(await count(balanced.port, 200)).toEqual({ "a:80": 200 });
  });

  test("a backend of which discovery says nothing costs its share only until fail-fast", async () => {
    const balanced = await site({ "a:80": 1, "b:80": 1 }, ["b:80"]);
    const first = await count(balanced.port, 40);
    expect(first["504"] ?? 0).toBeGreaterThan(0);
    expect(await count(balanced.port, 100)).toEqual({ "a:80": 100 });
    expect(balanced.suspected).toContain("b:80");
  });
});

describe("a set of endpoints that is replaced", () => {
  test("costs no connection to those that go", async () => {
    const dialled = { old: new Set<string>(), new: new Set<string>() };
    const server = createHttp2((_req, res) => res.end("ok"));
    server.on("session", ({ socket }) => {
      const address = socket.localAddress ?? "";
      (address.startsWith("127.1.") ? dialled.old : dialled.new).add(address);
    });
    open.push(server);
    server.listen(0, "0.0.0.0");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const block = (n: number) =>
      Array.from({ length: 3_000 }, (_, i): Endpoint => {
        const ip = `127.${n}.${i >> 8}.${i & 255}`;
        return { ...plainEndpoint({ ip, port }), hint: "h2" };
      });
    const balanced = await Balanced.start(routeTo(onlyBackend(backendOf("a:80"))), { "a:80": block(1) });
    open.push(balanced);
    expect((await ask(balanced.port)).status).toBe(200);
    await until(() => dialled.old.size === 64, "connections are kept to some of them");
    const remove = block(1).map(({ key }) => key);
    const told = { type: "discovery.endpoints", key: "endpoints a:80", reset: false } as const;
    balanced.proxy.tell({ ...told, add: block(2), remove: [] });
    balanced.proxy.tell({ ...told, add: [], remove });
    await until(() => dialled.new.size === 64, "connections are kept to as many of the new ones");
    expect(dialled.old.size).toBe(64);
    expect((await ask(balanced.port)).status).toBe(200);
  });
});

describe("failure accrual", () => {
  const accrual: FailureAccrual = {
    kind: "consecutive",
    maxFailures: 3,
    backoff: { minMs: 60_000, maxMs: 60_000, jitter: 0 },
  };

  test("sets an endpoint aside that fails in a row", async () => {
    const bad = new App((_req, res) => {
      res.statusCode = 500;
      res.end();
    });
    const good = named("good");
    open.push(bad, good);
    const balanced = await Balanced.start(routeTo(onlyBackend(backendOf("a:80", accrual))), {
      "a:80": [await bad.listen(), await good.listen()],
    });
    open.push(balanced);
    await count(balanced.port, 60);
    expect(bad.calls).toBeLessThanOrEqual(10);
    expect(await count(balanced.port, 40)).toEqual({ good: 40 });
  });

  test("of the only endpoint: who comes waits and is told 504, the next 503, until a probe is answered", async () => {
    let good = false;
    const app = new App((_req, res) => {
      res.statusCode = good ? 200 : 500;
      res.setHeader("x-who", "back");
      res.end();
    });
    open.push(app);
    const balanced = await Balanced.start(routeTo(onlyBackend(backendOf("a:80", accrual))), {
      "a:80": [await app.listen()],
    });
    open.push(balanced);
    const statuses = async (requests: number) => {
      const seen = [];
      for (let i = 0; i < requests; i++) seen.push((await ask(balanced.port)).status);
      return seen;
    };
    expect(await statuses(3)).toEqual([500, 500, 500]);
    expect(await statuses(2)).toEqual([504, 503]);
    expect(app.calls).toBe(3);
    good = true;
    balanced.proxy.clock.skip(60_000);
    await expect.poll(async () => (await statuses(1))[0], { timeout: 5_000 }).toBe(200);
    expect(await statuses(3)).toEqual([200, 200, 200]);
  });

  test("but not below the number that must stay ready", async () => {
    const bad = new App((_req, res) => {
      res.statusCode = 500;
      res.end("bad");
    });
    open.push(bad);
    const balanced = await Balanced.start(routeTo(onlyBackend(backendOf("a:80", { ...accrual, minReady: 1 }))), {
      "a:80": [await bad.listen()],
    });
    open.push(balanced);
    expect(await count(balanced.port, 20)).toEqual({ "500": 20 });
  });
});
