/**
 * What a program hears when its request does not reach an endpoint: status, gRPC status, whether its connection ends, and
 * why (outbound.md §8.3, §8.4).
 */
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type Endpoint, plainEndpoint } from "../../../src/proxy/core/endpoint.ts";
import {
  type Backend,
  defaultRef,
  type Filter,
  forwardPolicy,
  INVALID_OUTBOUND,
  makeBackend,
  NO_TIMEOUTS,
  type OutboundPolicy,
  type OutboundRule,
  onlyBackend,
} from "../../../src/proxy/policy/index.ts";
import { App, Balanced, backendOf, routeTo } from "../../support/balanced.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

async function site(policy: OutboundPolicy, endpoints: Record<string, readonly Endpoint[]> = {}): Promise<Balanced> {
  const balanced = await Balanced.start(policy, endpoints);
  open.push(balanced);
  return balanced;
}

const ALWAYS = { numerator: 1, denominator: 1 };
const silent = backendOf("silent:80");
const nowhere: Backend = makeBackend(
  defaultRef("svc"),
  defaultRef("gone"),
  { kind: "fail", message: "backend for Service shop/gone has no dispatcher" },
  undefined,
);
const ruled = (change: Partial<OutboundRule>): OutboundPolicy => routeTo(onlyBackend(silent), change);
const filtered = (filter: Filter): OutboundPolicy => ruled({ filters: [filter] });
const withoutRoute = (): OutboundPolicy => {
  const policy = ruled({});
  const http = policy.http1 && { ...policy.http1, routes: [] };
  return { ...policy, http1: http, http2: http };
};

/** Cause, policy, status, gRPC status, whether the program's connection ends, the reason's end. */
const CAUSES: readonly [string, OutboundPolicy, number, number, boolean, RegExp][] = [
  ["no endpoint in time", ruled({}), 504, 4, true, /service in fail-fast$/],
  ["nothing to choose from", routeTo({ kind: "empty" }), 503, 14, true, /service unavailable$/],
  [
    "the route's time is over",
    ruled({ timeouts: { ...NO_TIMEOUTS, requestMs: 50 } }),
    504,
    4,
    false,
    /^timed out waiting for response headers: request timeout: 50ms$/,
  ],
  [
    "a ServiceProfile's time is over",
    ruled({ timeouts: { ...NO_TIMEOUTS, headersMs: 50 } }),
    504,
    4,
    true,
    /^HTTP response timeout after 50ms$/,
  ],
  ["a backend that leads nowhere", routeTo(onlyBackend(nowhere)), 502, 14, true, /has no dispatcher$/],
  ["no route", withoutRoute(), 404, 5, false, /no route$/],
  [
    "a redirect",
    filtered({ kind: "redirect", scheme: undefined, host: "b.test", port: undefined, path: undefined, status: 302 }),
    302,
    5,
    false,
    /redirected$/,
  ],
  [
    "an injected failure",
    filtered({ kind: "http-failure", status: 418, message: "teapot", ratio: ALWAYS }),
    418,
    9,
    false,
    /^teapot$/,
  ],
  [
    "an injected failure of gRPC",
    filtered({ kind: "grpc-failure", code: 7, message: "not for you", ratio: ALWAYS }),
    200,
    7,
    false,
    /^not for you$/,
  ],
  ["a policy that makes no sense", INVALID_OUTBOUND, 500, 13, true, /invalid client policy$/],
];

/** Asks twice on one connection. @returns The answers' heads; one if the connection ended with the first. */
async function twice(port: number, fields = ""): Promise<string[]> {
  const socket = connect(port, "127.0.0.1");
  open.push({ close: () => socket.destroy() });
  const heads = () => text.match(/HTTP\/1\.1 \d+ .*?\r\n\r\n/gs) ?? [];
  let text = "";
  let ended = false;
  let asked = false;
  socket.on("error", () => {});
  socket.on("close", () => {
    ended = true;
  });
  const request = `GET /x HTTP/1.1\r\nhost: a.test\r\n${fields}\r\n`;
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
    if (asked || heads().length === 0) return;
    asked = true;
    socket.write(request);
  });
  socket.write(request);
  await until(() => ended || heads().length === 2, "both are answered, or the connection ends");
  return heads();
}

/** Calls by gRPC. @returns The head of the answer, and whether GOAWAY came. */
async function call(port: number): Promise<{ head: Record<string, unknown>; goneAway: boolean }> {
  const session: ClientHttp2Session = connectHttp2(`http://127.0.0.1:${port}`);
  open.push({ close: () => session.destroy() });
  session.on("error", () => {});
  let goneAway = false;
  session.on("goaway", () => {
    goneAway = true;
  });
  await once(session, "connect");
  const stream = session.request({
    ":method": "POST",
    ":path": "/x.Y/Z",
    ":authority": "a.test",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => {});
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  const [head] = (await once(stream, "response")) as [Record<string, unknown>];
  stream.resume();
  await once(stream, "close");
  // GOAWAY is not waited for: an answered PING says that it did not come before.
  await new Promise((resolve) => (session.destroyed ? resolve(undefined) : session.ping(resolve)));
  return { head, goneAway };
}

describe("an error", () => {
  test.each(CAUSES)("because of %s", async (_cause, policy, status, _grpc, closes, why) => {
    const { port } = await site(policy);
    const answers = await twice(port);
    const first = answers[0]?.toLowerCase() ?? "";
    expect(answers).toHaveLength(closes ? 1 : 2);
    expect(first).toMatch(new RegExp(`^http/1\\.1 ${status} `));
    expect(first).toContain("\r\ncontent-length: 0\r\n");
    expect(/\r\nl5d-proxy-error: (.*)\r\n/.exec(first)?.[1]).toMatch(new RegExp(why.source, "i"));
    expect(/\r\nl5d-proxy-connection: close\r\n/.test(first)).toBe(closes);
    expect(/\r\nconnection: close\r\n/.test(first)).toBe(closes);
    expect(/\r\nlocation: (.*)\r\n/.exec(first)?.[1]).toBe(status === 302 ? "http://b.test/x" : undefined);
  });

  test.each(CAUSES)("to gRPC, because of %s", async (_cause, policy, _status, grpc, closes, why) => {
    const { port } = await site(policy);
    const { head, goneAway } = await call(port);
    expect(head).toMatchObject({
      ":status": 200,
      "content-type": "application/grpc",
      "content-length": "0",
      "grpc-status": String(grpc),
      "grpc-message": expect.stringMatching(why),
      "l5d-proxy-error": expect.stringMatching(why),
    });
    expect(head["l5d-proxy-connection"]).toBe(closes ? "close" : undefined);
    expect(head["connection"]).toBeUndefined();
    expect(goneAway).toBe(closes);
  });

  test("because of an identity that the endpoint has not", async () => {
    const app = new App((_req, res) => res.end());
    open.push(app);
    const { port } = await site(ruled({}), { "silent:80": [await app.listen()] });
    const [first = "", ...more] = await twice(port, "l5d-require-id: spiffe://cluster.local/ns/shop/sa/web\r\n");
    expect(more).toEqual([]);
    expect(first).toMatch(/^HTTP\/1\.1 502 .*l5d-proxy-error: .*required id spiffe:\/\/cluster\.local.*; found none/s);
    expect(app.calls).toBe(0);
  });
});

describe("a peer's proxy that lost its application", () => {
  /** As the proxy of a meshed endpoint answers. */
  const gone = () =>
    new App((_req, res) => {
      res.setHeader("l5d-proxy-error", "client error (Connect)");
      res.setHeader("l5d-proxy-connection", "close");
      res.statusCode = 502;
      res.end();
    });
  const unmeshed = async (app: App): Promise<Endpoint> => plainEndpoint((await app.listen()).address);

  test("does not speak to the program, whose connection to a balanced Service stays", async () => {
    const app = gone();
    open.push(app);
    const { port } = await site(ruled({}), { "silent:80": [await unmeshed(app)] });
    const answers = await twice(port);
    expect(answers).toHaveLength(2);
    expect(answers.join("").toLowerCase()).not.toMatch(/l5d-proxy|connection: close/);
  });

  test("closes nothing without an identity, either", async () => {
    const app = gone();
    open.push(app);
    const { port } = await site(forwardPolicy("endpoint", await unmeshed(app)));
    expect(await twice(port)).toHaveLength(2);
  });

  test("ends the program's connection where that means this very endpoint", async () => {
    const app = gone();
    open.push(app);
    // Spoken to in clear text because it is this host itself: what counts is that it is somebody known.
    const identity = { kind: "dns", id: "web.shop", serverName: "web.shop" } as const;
    const endpoint: Endpoint = { ...(await unmeshed(app)), identity, expectsIdentity: true };
    const balanced = await Balanced.start(forwardPolicy("endpoint", endpoint), {}, Math.random, undefined, {
      localIps: [endpoint.address.ip],
    });
    open.push(balanced);
    const [first = "", ...more] = await twice(balanced.port);
    expect(more).toEqual([]);
    expect(first.toLowerCase()).toContain("\r\nconnection: close\r\n");
    expect(first.toLowerCase()).not.toContain("l5d-proxy");
  });
});
