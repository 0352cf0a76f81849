/**
 * Corner cases of the outbound side (outbound.md §12) that no other file has: what an operator meets once a year.
 */
import { Agent } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { connect, createServer as createTcp, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { Authority } from "../../../src/lab/pki.ts";
import { type Endpoint, plainEndpoint } from "../../../src/proxy/core/endpoint.ts";
import { forwardPolicy, type OutboundPolicy, onlyBackend, type RetryPolicy } from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";
import { Hops, SERVER_NAME } from "../../support/hops.ts";
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

describe("an absolute-form request that is retried", () => {
  test("is in absolute form each time, with the target's authority", async () => {
    const heard: string[] = [];
    const server = createTcp((socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        heard.push(chunk.toString("latin1"));
        const status = heard.length < 3 ? "503 Not Yet" : "200 OK";
        socket.write(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\n\r\n`);
      });
    });
    open.push(server);
    const retry = { ...RETRY, statusRanges: [{ start: 500, end: 599 }] };
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80")), { retry }), {
      "a:80": [await endpointOf(server)],
    });
    expect(await say(port, `GET http://a.shop/x HTTP/1.1\r\nhost: b.shop\r\nconnection: close\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 200 /,
    );
    expect(heard).toHaveLength(3);
    for (const request of heard) expect(request).toMatch(/^GET http:\/\/a\.shop\/x HTTP\/1\.1\r\nhost: a\.shop\r\n/i);
  });
});

describe("an upgrade on a route that retries", () => {
  test("is sent once, and what its answer says stands", async () => {
    const app = new App(() => {});
    let upgrades = 0;
    app.server.on("upgrade", (_req, socket) => {
      upgrades++;
      socket.end("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    });
    open.push(app);
    const retry = { ...RETRY, statusRanges: [{ start: 500, end: 599 }] };
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80")), { retry }), {
      "a:80": [await app.listen()],
    });
    const request = "GET /chat HTTP/1.1\r\nhost: a\r\nupgrade: chat\r\nconnection: upgrade, close\r\n\r\n";
    expect(await say(port, request)).toMatch(/^HTTP\/1\.1 503 /);
    expect(upgrades).toBe(1);
  });
});

describe("an answer before the end of an upload on a route that retries", () => {
  test("is the answer", async () => {
    const app = new App((_req, res) => {
      res.statusCode = 503;
      res.end("no");
    });
    open.push(app);
    const retry = { ...RETRY, statusRanges: [{ start: 500, end: 599 }] };
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80")), { retry }), {
      "a:80": [await app.listen()],
    });
    const socket = connect(port, "127.0.0.1");
    open.push({ close: () => socket.destroy() });
    let heard = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf of it");
    await until(() => heard.startsWith("HTTP/1.1 503 "), "it is answered");
    expect(app.calls).toBe(1);
  });
});

describe("a stream of HTTP/2 that its endpoint resets under a program's HTTP/1", () => {
  test("is 502, and the program's connection ends", async () => {
    const server = createHttp2();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      stream.close(11);
    });
    open.push(server);
    const endpoint: Endpoint = { ...(await endpointOf(server)), hint: "h2" };
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80"))), { "a:80": [endpoint] });
    expect(await say(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")).toMatch(
      /^HTTP\/1\.1 502 .*\r\nconnection: close\r\n/is,
    );
  });
});

describe("an answer of HTTP/1.0", () => {
  test("reaches a program of HTTP/1.1 through both hops in its own version, whole and told its end", async () => {
    const server = createTcp((socket) => {
      socket.on("error", () => {});
      // Its end is the connection's.
      socket.on("data", () => socket.end("HTTP/1.0 200 OK\r\n\r\nold words"));
    });
    const { address } = await endpointOf(server);
    const hops = await Hops.start({ appPort: address.port });
    open.push(server, hops);
    const answer = await say(hops.port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer.toLowerCase()).toContain("\r\ntransfer-encoding: chunked\r\n");
    expect(answer).toMatch(/\r\nold words\r\n0\r\n\r\n$/);
    expect(answer).not.toContain("l5d-");
  });
});

describe("a target that is none", () => {
  test.each([
    "CONNECT /path HTTP/1.1",
    "CONNECT * HTTP/1.1",
    "CONNECT http://a.test/ HTTP/1.1",
    "CONNECT a.test:80 HTTP/1.0",
    "GET a.test:80 HTTP/1.1",
    "GET test HTTP/1.1",
  ])("%s: 400 without content, and the end", async (line) => {
    const app = new App((_req, res) => res.end());
    open.push(app);
    const { port } = await balanced(routeTo(onlyBackend(backendOf("a:80"))), { "a:80": [await app.listen()] });
    const answer = await say(port, `${line}\r\nhost: a.test\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 400 [\s\S]*\r\ncontent-length: 0\r\n[\s\S]*\r\n\r\n$/);
    expect(app.calls).toBe(0);
  });
});

describe("an endpoint on loopback", () => {
  test.each(["127.0.0.1", "0.0.0.0"])(
    "is refused: %s in a Service does not lead to what listens for this host alone",
    async (ip) => {
      const { endpoint, heard } = await listener();
      const named = plainEndpoint({ ip, port: endpoint.address.port });
      const endpoints = { "a:80": [named] };
      const policy = routeTo(onlyBackend(backendOf("a:80")));
      const host = { refusesLoopback: true };
      const { port } = await balanced(policy, endpoints, Math.random, undefined, host);
      const answer = await ask(port);
      expect([answer.status, answer.headers["l5d-proxy-error"]]).toEqual([
        502,
        `endpoint ${named.key}: is on this host's loopback interface`,
      ]);
      const route = { ref: policy.ref, snis: [], filters: [], distribution: onlyBackend(backendOf("a:80")) };
      const opaque: OutboundPolicy = { ...policy, kind: "opaque", opaque: route as never };
      const bytes = await balanced(opaque, endpoints, Math.random, undefined, host);
      expect(await say(bytes.port, "bytes")).toBe("");
      expect(heard).toEqual([]);
    },
  );
});

describe("a connection to the proxy's own port", () => {
  test("is not taken, but one to a Service with a port of that number is", async () => {
    const app = new App((_req, res) => res.end("ok"));
    open.push(app);
    const site = await balanced(routeTo(onlyBackend(backendOf("a:80"))), { "a:80": [await app.listen()] });
    const asked = async (ip: string) => {
      const front = createTcp({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
        socket.on("error", () => {});
        site.proxy.outbound?.accept({ socket, client: { ip: "10.0.0.9", port: 1 }, originalDst: { ip, port: 4140 } });
      });
      open.push(front);
      const { address } = await endpointOf(front);
      return say(address.port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    };
    expect(await asked("127.0.0.1")).toBe("");
    expect(await asked("::1")).toBe("");
    expect(await asked("10.96.0.7")).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe("an endpoint that is this very host", () => {
  test("is spoken to in clear text, as itself and on its own port, whatever discovery says of it", async () => {
    const { endpoint, heard } = await listener();
    const { ip } = endpoint.address;
    const identity = { kind: "dns", id: SERVER_NAME, serverName: SERVER_NAME } as const;
    const meshed: Endpoint = {
      ...endpoint,
      identity,
      expectsIdentity: true,
      hint: "h2",
      inboundPort: 1,
      authorityOverride: "elsewhere.shop:80",
    };
    const endpoints = { "a:80": [meshed] };
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const { port } = await balanced(policy, endpoints, Math.random, undefined, { localIps: [ip] });
    expect(await ask(port, { path: "/mine", headers: { host: "a.shop" } })).toMatchObject({ status: 200, body: "ok" });
    expect(heard[0]).toMatch(/^GET \/mine HTTP\/1\.1\r\nhost: a\.shop\r\n/i);
    expect(heard[0]).not.toContain("l5d-");
    const route = { ref: policy.ref, snis: [], filters: [], distribution: onlyBackend(backendOf("a:80")) };
    const bytes = await balanced(
      { ...policy, kind: "opaque", opaque: route as never },
      endpoints,
      Math.random,
      undefined,
      { localIps: [ip] },
    );
    expect(await say(bytes.port, "just bytes")).toContain("HTTP/1.1 200 OK");
    expect(heard[1]).toBe("just bytes");
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

describe("a Service that becomes opaque", () => {
  test("is so for new connections; requests on those that are open find their way as before", async () => {
    const app = new App((_req, res) => res.end("ok"));
    open.push(app);
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const site = await balanced(policy, { "a:80": [await app.listen()] });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    open.push({ close: () => agent.destroy() });
    expect((await ask(site.port, { agent })).status).toBe(200);
    const { ref } = policy;
    const forbidden = {
      ref,
      snis: [],
      filters: [{ kind: "forbidden" as const }],
      distribution: { kind: "empty" as const },
    };
    site.update({ ...policy, kind: "opaque", http1: undefined, http2: undefined, opaque: forbidden });
    expect((await ask(site.port, { agent })).status).toBe(200);
    expect(await say(site.port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")).toBe("");
    // What the routes say next counts for both.
    site.update(routeTo({ kind: "empty" }));
    expect((await ask(site.port, { agent })).status).toBe(503);
  });
});

describe("a policy for bytes", () => {
  const policy = (...paths: string[]): OutboundPolicy => {
    const backends = paths.map((path) => ({ backend: backendOf(path), weight: 1, filters: [] }));
    const { ref } = routeTo({ kind: "empty" });
    const opaque = { ref, snis: [], filters: [], distribution: { kind: "random-available" as const, backends } };
    return { ...routeTo({ kind: "empty" }), kind: "opaque", opaque };
  };
  /** Whether the page counts an endpoint of this backend. */
  const shown = (site: Balanced, path: string) =>
    new RegExp(`^outbound_tcp_balancer_endpoints\\{endpoint_state="ready",.*backend_name="${path}".* 1$`, "m").test(
      site.proxy.metrics.format(),
    );

  async function greeter(): Promise<Endpoint> {
    const server = createTcp((socket) => socket.end("hello"));
    open.push(server);
    return endpointOf(server);
  }

  test("looks for all of its backends at once: a connection waits for none that is empty", async () => {
    const endpoints = { "a:80": [await greeter()], "b:80": [], "c:80": [] };
    const site = await balanced(policy("a:80", "b:80", "c:80"), endpoints);
    // Sets everything up, and may draw an empty one: nobody has said so yet.
    await say(site.port, "");
    for (let i = 0; i < 20; i++) expect(await say(site.port, "")).toBe("hello");
  });

  test("that names a backend no more lets go of it while connections last", async () => {
    const site = await balanced(policy("a:80"), { "a:80": [await greeter()], "b:80": [await greeter()] });
    expect(await say(site.port, "")).toBe("hello");
    expect([shown(site, "a:80"), shown(site, "b:80")]).toEqual([true, false]);
    site.update(policy("b:80"));
    expect(await say(site.port, "")).toBe("hello");
    expect([shown(site, "a:80"), shown(site, "b:80")]).toEqual([false, true]);
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
