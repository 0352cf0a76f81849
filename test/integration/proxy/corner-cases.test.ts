/**
 * Corner cases of the outbound side (outbound.md §12) that no other file has: what an operator meets once a year.
 */
import { connect, createServer as createTcp, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { Authority } from "../../../src/lab/pki.ts";
import { type Endpoint, plainEndpoint } from "../../../src/proxy/core/endpoint.ts";
import { forwardPolicy, onlyBackend, type RetryPolicy } from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";
import { SERVER_NAME } from "../../support/hops.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

async function balanced(...args: Parameters<typeof Balanced.start>): Promise<Balanced> {
  const made = await Balanced.start(...args);
  open.push(made);
  return made;
}

/** Where nobody listens. */
async function nobody(): Promise<Endpoint> {
  const app = new App(() => {});
  const endpoint = await app.listen();
  app.close();
  return endpoint;
}

/** An application that keeps what it is sent, and answers every connection once. */
async function listener(secure?: Parameters<typeof createTls>[0]): Promise<{ endpoint: Endpoint; heard: string[] }> {
  const heard: string[] = [];
  const serve = (socket: Socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      heard.push(chunk.toString("latin1"));
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
  };
  const server = secure === undefined ? createTcp(serve) : createTls(secure, serve);
  open.push(server);
  return { endpoint: await endpointOf(server), heard };
}

/** All that a connection hears until it ends. */
function say(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1", () => socket.write(text));
  let all = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    all += chunk.toString("latin1");
  });
  return new Promise((resolve) => socket.on("close", () => resolve(all)));
}

const RETRY: RetryPolicy = {
  maxRetries: 2,
  maxRequestBytes: 65_536,
  statusRanges: [],
  grpcCodes: [],
  timeoutMs: undefined,
  backoff: { minMs: 1, maxMs: 2, jitter: 0 },
};

describe("a request of HTTP/1.0 without Host", () => {
  test("travels alone, and gets none on its way", async () => {
    const { endpoint, heard } = await listener();
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80"))), { "a:80": [endpoint] });
    expect(await say(port, "GET /old HTTP/1.0\r\nx-own: 1\r\n\r\n")).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(heard).toHaveLength(1);
    expect(heard[0]).toMatch(/^GET \/old HTTP\/1\.0\r\n/);
    expect(heard[0]?.toLowerCase()).not.toContain("\r\nhost:");
  });
});

describe("a retry policy that names no status", () => {
  test("retries no answer", async () => {
    const app = new App((_req, res) => {
      res.statusCode = 503;
      res.end();
    });
    open.push(app);
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80")), { retry: RETRY }), {
      "a:80": [await app.listen()],
    });
    expect((await ask(port)).status).toBe(503);
    expect(app.calls).toBe(1);
  });
});

describe("an endpoint that refuses connections", () => {
  test("costs the requests that find it out, and draws no more", async () => {
    const app = new App((_req, res) => res.end("ok"));
    open.push(app);
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80"))), {
      "a:80": [await nobody(), await app.listen()],
    });
    let failed = 0;
    for (let i = 0; i < 50; i++) if ((await ask(port)).status !== 200) failed++;
    expect(failed).toBeLessThanOrEqual(1);
  });

  test("of bytes, as well", async () => {
    const server = createTcp((socket) => socket.end("hello"));
    open.push(server);
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const route = { ref: policy.ref, hosts: [], snis: [], filters: [], distribution: onlyBackend(backendOf("a:80")) };
    const { port } = await balanced(
      { ...policy, kind: "opaque", opaque: route as never },
      {
        "a:80": [await nobody(), await endpointOf(server)],
      },
    );
    let failed = 0;
    for (let i = 0; i < 30; i++) if ((await say(port, "")) !== "hello") failed++;
    expect(failed).toBeLessThanOrEqual(1);
  });

  test("and is the only one that was meant: HTTP/1 is answered 502 each time, at once", async () => {
    const { port } = await balanced(forwardPolicy("endpoint", await nobody()), {});
    for (let i = 0; i < 3; i++) {
      const since = performance.now();
      expect((await ask(port)).status).toBe(502);
      expect(performance.now() - since).toBeLessThan(400);
    }
  });

  test("and takes HTTP/2 only: who comes waits and is told 504, the next 503", async () => {
    const endpoint: Endpoint = { ...plainEndpoint((await nobody()).address), hint: "h2" };
    const { port } = await balanced(forwardPolicy("endpoint", endpoint), {});
    expect((await ask(port)).status).toBe(504);
    expect((await ask(port)).status).toBe(503);
  });
});

describe("a server that does not take the name of the transport header", () => {
  test("is sent none: the bytes inside TLS are the request", async () => {
    const authority = await Authority.root("root.linkerd.cluster.local");
    const leaf = await authority.issue({ dns: [SERVER_NAME] });
    const { endpoint, heard } = await listener({
      key: leaf.keyPem,
      cert: leaf.certificatePem,
      ca: authority.certificatePem,
      requestCert: true,
      minVersion: "TLSv1.3",
    });
    const identity = { kind: "dns", id: SERVER_NAME, serverName: SERVER_NAME } as const;
    const meshed: Endpoint = { ...endpoint, identity, expectsIdentity: true, inboundPort: endpoint.address.port };
    const { port } = await balanced(
      routeTo(onlyBackend(backendOf("a:80"))),
      { "a:80": [meshed] },
      Math.random,
      authority,
    );
    expect(await ask(port, { path: "/plain", headers: { host: "a" } })).toMatchObject({ status: 200, body: "ok" });
    await until(() => heard.length > 0, "it is heard");
    expect(heard[0]).toMatch(/^GET \/plain HTTP\/1\.1\r\n/);
  });
});
