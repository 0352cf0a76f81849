import {
  connect as connectHttp2,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { connect, createServer as createTcp } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { Endpoint } from "../../../src/proxy/core/endpoint.ts";
import {
  type ConnectionFilter,
  type OutboundPolicy,
  onlyBackend,
  type RetryPolicy,
} from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";
import { clientHello, serverName } from "../../support/client-hello.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

async function site(policy: OutboundPolicy, endpoint: Endpoint): Promise<number> {
  const balanced = await Balanced.start(policy, { "a:80": [endpoint] });
  open.push(balanced);
  return balanced.port;
}

/** As a ServiceProfile's routing: by its name, with a budget. */
function profiled(ratio: number, minRetriesPerSecond: number): OutboundPolicy {
  const policy = routeTo(onlyBackend(backendOf("a:80")), {
    budgetedRetry: true,
    classify: { kind: "profile", classes: [] },
  });
  const http = policy.http1 && {
    ...policy.http1,
    select: "first" as const,
    retryBudget: { ratio, minRetriesPerSecond, ttlMs: 10_000 },
    canonical: "a.shop.svc.cluster.local:80",
  };
  return { ...policy, http1: http, http2: http };
}

describe("a ServiceProfile's route", () => {
  test("tells the application its name, and retries within the budget", async () => {
    let name: string | string[] | undefined;
    const app = new App((req, res, call) => {
      name = req.headers["l5d-dst-canonical"];
      res.statusCode = call < 3 ? 500 : 200;
      res.end(String(call));
    });
    open.push(app);
    const port = await site(profiled(0.2, 10), await app.listen());
    expect(await ask(port)).toMatchObject({ status: 200, body: "3" });
    expect(name).toBe("a.shop.svc.cluster.local:80");
  });

  test("earns retries by requests that are not to be retried, and by no others", async () => {
    let fails = 0;
    const app = new App((_req, res) => {
      res.statusCode = fails-- > 0 ? 500 : 200;
      res.end();
    });
    open.push(app);
    const endpoint = await app.listen();
    const balanced = await Balanced.start(profiled(1, 0), { "a:80": [endpoint] });
    open.push(balanced);
    const asked = async (failing: number) => {
      fails = failing;
      const before = app.calls;
      return [(await ask(balanced.port)).status, app.calls - before];
    };
    // Nobody has earned anything, least of all a failure that was to be retried.
    expect([await asked(1), await asked(1)]).toEqual([
      [500, 1],
      [500, 1],
    ]);
    // An answer that is wanted pays for one retry, whose own answer pays for the next.
    expect(await asked(0)).toEqual([200, 1]);
    expect([await asked(1), await asked(2)]).toEqual([
      [200, 2],
      [500, 2],
    ]);
    expect(await asked(1)).toEqual([500, 1]);
    // So does a request that came to nobody: it is not retried.
    const key = "endpoints a:80";
    balanced.proxy.tell({ type: "discovery.endpoints", key, reset: false, add: [], remove: [endpoint.key] });
    expect(await asked(0)).toEqual([504, 0]);
    balanced.proxy.tell({ type: "discovery.endpoints", key, reset: false, add: [endpoint], remove: [] });
    expect(await asked(1)).toEqual([200, 2]);
  });

  test("passes the failure on when the budget is spent", async () => {
    const app = new App((_req, res) => {
      res.statusCode = 500;
      res.end();
    });
    open.push(app);
    const port = await site(profiled(0, 0), await app.listen());
    expect((await ask(port)).status).toBe(500);
  });
});

describe("an endpoint behind a gateway", () => {
  test("is asked by the name that the gateway knows", async () => {
    const app = new App((req, res) => res.end(String(req.headers.host)));
    open.push(app);
    const endpoint = { ...(await app.listen()), authorityOverride: "web.shop.svc.cluster.local:8080" };
    const port = await site(routeTo(onlyBackend(backendOf("a:80"))), endpoint);
    expect((await ask(port, { headers: { host: "web-west.shop" } })).body).not.toContain("web-west");
  });
});

describe("an endpoint whose identity cannot be checked", () => {
  test("is refused with a reason rather than spoken to in clear text", async () => {
    const app = new App((_req, res) => res.end("heard"));
    open.push(app);
    const endpoint = { ...(await app.listen()), expectsIdentity: true };
    const answer = await ask(await site(routeTo(onlyBackend(backendOf("a:80"))), endpoint));
    expect(answer.status).toBe(502);
    expect(answer.headers["l5d-proxy-error"]).toContain("identity is unusable");
    expect(app.calls).toBe(0);
  });
});

const GRPC_RETRY: RetryPolicy = {
  maxRetries: 3,
  maxRequestBytes: 65_536,
  statusRanges: [],
  grpcCodes: [14],
  timeoutMs: undefined,
  backoff: { minMs: 5, maxMs: 20, jitter: 0 },
};

/** A gRPC server that answers `codes` in turn: in trailers after a message, after none, or with the head alone. */
function grpcServer(form: "message" | "trailers" | "head", codes: readonly number[]): Http2Server {
  let call = 0;
  const server = createServer();
  server.on("stream", (stream: ServerHttp2Stream) => {
    const status = String(codes[Math.min(call++, codes.length - 1)]);
    stream.resume();
    if (form === "head")
      return stream.respond(
        { ":status": 200, "content-type": "application/grpc", "grpc-status": status },
        { endStream: true },
      );
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
    if (form === "message") stream.write(Buffer.from([0, 0, 0, 0, 0]));
    stream.end();
  });
  return server;
}

async function callGrpc(port: number): Promise<string | undefined> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/a.B/C",
    "content-type": "application/grpc",
    te: "trailers",
  });
  let status: string | undefined;
  const note = (headers: IncomingHttpHeaders) => {
    status = (headers["grpc-status"] as string | undefined) ?? status;
  };
  stream.on("response", note).on("trailers", note).resume();
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  await new Promise((resolve, reject) => stream.once("close", resolve).once("error", reject));
  session.close();
  return status;
}

describe("gRPC calls", () => {
  test.each(["head", "trailers"] as const)("are retried by a status in the %s", async (form) => {
    const server = grpcServer(form, [14, 14, 0]);
    open.push(server);
    const endpoint = await endpointOf(server);
    const port = await site(
      routeTo(onlyBackend(backendOf("a:80")), { retry: GRPC_RETRY, classify: { kind: "grpc" } }),
      endpoint,
    );
    expect(await callGrpc(port)).toBe("0");
  });

  test("are left alone with another status, after a message, too", async () => {
    const server = grpcServer("message", [5]);
    open.push(server);
    const endpoint = await endpointOf(server);
    const port = await site(routeTo(onlyBackend(backendOf("a:80")), { retry: GRPC_RETRY }), endpoint);
    expect(await callGrpc(port)).toBe("5");
  });
});

describe("a connection that the policy forbids", () => {
  test("is closed before anything is dialled", async () => {
    const app = new App((_req, res) => res.end());
    open.push(app);
    const endpoint = await app.listen();
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const opaque = {
      ref: policy.ref,
      snis: [],
      filters: [{ kind: "forbidden" as const }],
      distribution: onlyBackend<ConnectionFilter>(backendOf("a:80")),
    };
    const port = await site({ ...policy, kind: "opaque", opaque }, endpoint);
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("close", resolve));
    expect(app.calls).toBe(0);
  });
});

describe("a TLS connection", () => {
  test.each([
    ["without a server name", []],
    ["whose server name no route has", [serverName("other.shop")]],
  ])("%s is closed before anything is dialled", async (_name, extensions) => {
    let dialled = 0;
    const server = createTcp((socket) => {
      dialled++;
      socket.pipe(socket);
    });
    open.push(server);
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const route = {
      ref: policy.ref,
      snis: [{ kind: "exact" as const, value: "db.shop" }],
      filters: [],
      distribution: onlyBackend<ConnectionFilter>(backendOf("a:80")),
    };
    const port = await site({ ...policy, kind: "tls", tls: [route] }, await endpointOf(server));
    const socket = connect(port, "127.0.0.1");
    let heard = 0;
    socket.on("data", (chunk) => {
      heard += chunk.length;
    });
    socket.on("error", () => {});
    socket.write(clientHello({ extensions }));
    await new Promise((resolve) => socket.once("close", resolve));
    expect([dialled, heard]).toEqual([0, 0]);
  });
});
