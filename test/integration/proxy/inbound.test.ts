import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { parseCidr } from "../../../src/proxy/core/address.ts";
import {
  type Authorization,
  defaultInboundPolicy,
  defaultRef,
  type InboundPolicy,
  type InboundRoute,
} from "../../../src/proxy/policy/index.ts";
import { CLIENT_NAME, Hops } from "../../support/hops.ts";

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers) close();
  closers = [];
});

const EVERYWHERE = [parseCidr("0.0.0.0/0"), parseCidr("::/0")].flatMap((net) =>
  net === undefined ? [] : [{ net, except: [] }],
);
const only = (identity: string): Authorization => ({
  ref: defaultRef("only"),
  networks: EVERYWHERE,
  authentication: { kind: "identities", identities: [identity], suffixes: [] },
});
const route = (name: string, authorizations: readonly Authorization[]): InboundRoute => ({
  ref: defaultRef(name),
  hosts: [],
  authorizations,
  rules: [
    {
      matches: [
        { kind: "http", method: undefined, path: { kind: "prefix", prefix: `/${name}` }, headers: [], query: [] },
      ],
      filters: [],
    },
  ],
});

/** `/foo` for the client, `/bar` for somebody else, nothing but that. */
function fooNotBar(more: { total?: number } = {}): InboundPolicy {
  return {
    source: "api",
    ref: defaultRef("foo-not-bar"),
    protocol: {
      kind: "detect",
      timeoutMs: 500,
      routes: [route("foo", [only(CLIENT_NAME)]), route("bar", [only("other.ns")])],
      rateLimits:
        more.total === undefined
          ? undefined
          : { ref: undefined, total: more.total, perIdentity: undefined, overrides: [] },
    },
    authorizations: [],
  };
}

async function startApp(): Promise<{ port: number; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const app: Server = createServer((incoming, response) => {
    seen.push(incoming);
    response.end("the application");
  });
  app.listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  closers.push(() => {
    app.closeAllConnections();
    app.close();
  });
  return { port: (app.address() as AddressInfo).port, seen };
}

async function start(inboundPolicy: InboundPolicy): Promise<{ hops: Hops; port: number; seen: IncomingMessage[] }> {
  const { port, seen } = await startApp();
  const hops = await Hops.start({ appPort: port, inboundPolicy });
  closers.push(() => hops.close());
  return { hops, port, seen };
}

const get = (port: number, path: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const ask = request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
    ask.on("error", reject);
    ask.end();
  });

/** Sends bytes and reads to the end, or until nothing more comes. */
const tell = (port: number, ...pieces: string[]): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let heard = "";
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(heard));
    void (async () => {
      for (const piece of pieces) {
        socket.write(piece, "latin1");
        await new Promise((done) => setTimeout(done, 30));
      }
      socket.end();
    })();
  });

describe("who may do what", () => {
  test("one route is open to a client, another is not, and nothing else exists", async () => {
    const { hops, seen } = await start(fooNotBar());
    expect([await get(hops.port, "/foo"), await get(hops.port, "/bar"), await get(hops.port, "/")]).toEqual([
      200, 403, 404,
    ]);
    expect(seen.map(({ url }) => url)).toEqual(["/foo"]);
    expect(hops.server.log.lines.filter((line) => line === "info refused a request")).toHaveLength(2);
  });

  test("a policy that changes is asked about the next request of an open connection", async () => {
    const { hops, port } = await start(fooNotBar());
    expect(await get(hops.port, "/foo")).toBe(200);
    const value = { ...fooNotBar(), protocol: { ...fooNotBar().protocol, routes: [route("foo", [only("other.ns")])] } };
    hops.server.tell({ type: "discovery.inbound", key: `inbound ${port}`, value: value as InboundPolicy });
    expect(await get(hops.port, "/foo")).toBe(403);
  });

  test("an opaque connection is cut when its client is no longer let in, or when the port becomes HTTP", async () => {
    const app = createTcpServer((socket) => {
      socket.on("error", () => {});
      socket.write("hello");
    });
    app.listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    closers.push(() => void app.close());
    const { port } = app.address() as AddressInfo;
    for (const value of [
      defaultInboundPolicy("deny", { detectTimeoutMs: 500, clusterNetworks: [] }),
      { ...fooNotBar(), protocol: { kind: "http1", routes: [], rateLimits: undefined } } satisfies InboundPolicy,
    ]) {
      const hops = await Hops.start({ appPort: port, opaque: true });
      closers.push(() => hops.close());
      const socket = connect(hops.port, "127.0.0.1");
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once("data", resolve));
      const cut = new Promise((resolve) => socket.once("close", resolve));
      const began = performance.now();
      hops.server.tell({ type: "discovery.inbound", key: `inbound ${port}`, value });
      await cut;
      expect(performance.now() - began).toBeLessThan(1_000);
    }
  });
});

describe("detection is no way around a route", () => {
  test.each([
    ["blank lines before the request", ["\r\n\r\n\r\nGET /bar HTTP/1.1\r\nhost: a\r\n\r\n"]],
    ["a token in pieces", ["G", "ET /b", "ar HTTP/1.1\r\nhost: a\r\n\r\n"]],
    ["a long first line", [`GET /bar?${"x".repeat(6_000)} HTTP/1.1\r\nhost: a\r\n\r\n`]],
    ["a method that nobody knows", ["BREW /bar HTTP/1.1\r\nhost: a\r\n\r\n"]],
    ["a preface that turns into something else", ["PRI * HTTP/2.0\r\n\r\nGET /bar HTTP/1.1\r\nhost: a\r\n\r\n"]],
    ["a header that claims another protocol", ["GET /bar HTTP/1.1\r\nhost: a\r\nl5d-orig-proto: HTTP/1.1\r\n\r\n"]],
    ["bytes that are no HTTP before it", ["\x00\x01GET /bar HTTP/1.1\r\nhost: a\r\n\r\n"]],
    ["a target that names another path", ["GET http://a/bar/../bar HTTP/1.1\r\nhost: a\r\n\r\n"]],
  ])("%s", async (_name, pieces) => {
    const { hops, port, seen } = await start(fooNotBar());
    // Both as an intercepted connection in clear text and through a peer.
    const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port });
    for (const to of [hops.port, intercepted]) expect(await tell(to, ...pieces)).not.toContain("the application");
    expect(seen).toEqual([]);
  });
});

test("a path too long to be tested in time is nobody's, not the next route's", async () => {
  const guarded = route("guarded", [only("other.ns")]);
  const pattern = { source: "(?:/?a?){900}/secret" };
  const any = { kind: "http", method: undefined, path: undefined, headers: [], query: [] } as const;
  const match = { kind: "http", method: undefined, path: { kind: "regex", pattern }, headers: [], query: [] } as const;
  const { hops, seen } = await start({
    source: "api",
    ref: defaultRef("guarded"),
    protocol: {
      kind: "detect",
      timeoutMs: 500,
      routes: [
        { ...guarded, rules: [{ matches: [match], filters: [] }] },
        { ...route("open", [only(CLIENT_NAME)]), rules: [{ matches: [any], filters: [] }] },
      ],
      rateLimits: undefined,
    },
    authorizations: [],
  });
  expect([await get(hops.port, "/open"), await get(hops.port, "/a/secret")]).toEqual([200, 403]);
  expect(await get(hops.port, `${"/a".repeat(3_000)}/secret`)).toBe(500);
  expect(seen.map(({ url }) => url)).toEqual(["/open"]);
  expect(hops.server.metrics.format()).toMatch(/inbound_http_errors_total\{error="unexpected",.*\} 1\n/);
});

describe("what the application sees", () => {
  test("no identity that a client gave itself", async () => {
    const { port, seen } = await startApp();
    const open = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] });
    const hops = await Hops.start({ appPort: port, inboundPolicy: open });
    closers.push(() => hops.close());
    const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port });
    await tell(intercepted, "GET / HTTP/1.1\r\nhost: a\r\nl5d-client-id: admin\r\nconnection: close\r\n\r\n");
    expect(seen.map(({ headers }) => headers["l5d-client-id"])).toEqual([undefined]);
  });
});

describe("the page", () => {
  test("routes are counted as permitted, limited requests as errors and not as requests", async () => {
    const { hops } = await start(fooNotBar({ total: 1 }));
    expect([await get(hops.port, "/foo"), await get(hops.port, "/foo")]).toEqual([200, 429]);
    const page = hops.server.metrics.format();
    const parent = 'parent_group="",parent_kind="default",parent_name="foo-not-bar"';
    expect(page).toMatch(new RegExp(`inbound_http_requests_total\\{${parent}.*route_name="foo"\\} 1\n`));
    expect(page).toMatch(new RegExp(`inbound_http_statuses_total\\{${parent}.*status="200"\\} 1\n`));
    expect(page).toMatch(/inbound_http_errors_total\{error="unexpected",.*\} 1\n/);
    expect(page).toMatch(/\nrequest_total\{direction="inbound",.*\} 1\n/);
    expect(page).toMatch(/inbound_http_authz_allow_total\{.*\} 2\n/);
    expect(page).toMatch(/inbound_http_local_ratelimit_total\{.*ratelimit_scope="total".*\} 1\n/);
  });
});
