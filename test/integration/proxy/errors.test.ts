/** What a client hears when the application does not answer: status, gRPC status, whether the connection ends, and why. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createServer as createHttp2,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { parseCidr } from "../../../src/proxy/core/address.ts";

import type { Authorization, InboundPolicy, InboundRoute } from "../../../src/proxy/policy/index.ts";
import type { Hops, HopsOptions } from "../../support/hops.ts";
import { ANYONE, detect, http, InboundSite, inboundPolicy, routeTo } from "../../support/inbound-site.ts";
import { speak } from "../../support/meshed-client.ts";
import { until } from "../../support/until.ts";

const site = new InboundSite();
const sessions: ClientHttp2Session[] = [];
afterEach(() => {
  for (const session of sessions.splice(0)) session.destroy();
  site.close();
});

const NOBODY: Authorization = { ...ANYONE, networks: [{ net: parseCidr("203.0.113.0/24") ?? fail(), except: [] }] };
const filtered = (path: string, filter: InboundRoute["rules"][number]["filters"][number]): InboundRoute =>
  routeTo(path, { filters: [filter] });
function fail(): never {
  throw new Error("no network");
}

const ROUTES = [
  routeTo("/app"),
  { ...routeTo("/denied"), authorizations: [NOBODY] },
  filtered("/moved", { kind: "redirect", scheme: undefined, host: "b", port: undefined, path: undefined, status: 308 }),
  filtered("/unknown-filter", {
    kind: "internal-error",
    message: "invalid server policy: server policy configured with unknown filter",
  }),
  filtered("/injected", {
    kind: "http-failure",
    status: 418,
    message: "teapot",
    ratio: { numerator: 1, denominator: 1 },
  }),
];
const policy = (routes: readonly InboundRoute[] = ROUTES): InboundPolicy =>
  inboundPolicy(detect(10_000, ...routes), []);

/** An application that does what the path says. */
async function app(): Promise<number> {
  return site.http((request, response) => {
    const { socket } = request;
    if (request.url === "/app/closes") socket.end();
    else if (request.url === "/app/resets") socket.resetAndDestroy();
    else response.end("the application");
  });
}

const request = (path: string) => `GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`;
/** A second request on the same connection tells whether it is still open; it ends it in any case. */
const THEN = "GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

const heads = (text: string) => text.match(/HTTP\/1\.1 \d+ .*?\r\n\r\n/gs) ?? [];

/** Asks by HTTP/1 in mesh TLS, and again once there is an answer. */
async function meshed(hops: Hops, port: number, path: string): Promise<string[]> {
  let asked = false;
  const again = (socket: TLSSocket, text: string) => {
    if (asked || heads(text).length === 0) return;
    asked = true;
    socket.write(THEN);
  };
  return heads(await speak(hops, { port, protocol: "http1" }, request(path), { heard: again }));
}

async function plain(port: number, path: string): Promise<string[]> {
  const socket: Socket = connect(port, "127.0.0.1");
  let text = "";
  let asked = false;
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
    if (asked || heads(text).length === 0) return;
    asked = true;
    socket.write(THEN);
  });
  socket.write(request(path));
  await new Promise((resolve) => socket.once("close", resolve));
  return heads(text);
}

describe("HTTP/1", () => {
  test.each<[string, string, number, boolean, RegExp]>([
    [
      "no route",
      "/elsewhere",
      404,
      false,
      /^client 127\.0\.0\.1:\d+: server: 127\.0\.0\.1:\d+: no route found for request$/,
    ],
    ["no authorization", "/denied", 403, false, /^client .*: server: .*: unauthorized request on route$/],
    ["a redirect", "/moved", 308, false, /^redirected$/],
    ["a filter that nobody knows", "/unknown-filter", 500, true, /^invalid server policy: .*unknown filter$/],
    // Linkerd's proxy loses the status and answers 500.
    ["an injected failure", "/injected", 418, false, /^teapot$/],
    // 500 from Linkerd's proxy, which tells it from a reset.
    ["an application that closes instead of answering", "/app/closes", 502, true, /./],
    ["an application that resets", "/app/resets", 502, true, /./],
  ])("%s", async (_, path, status, closes, message) => {
    const appPort = await app();
    const { hops, intercepted } = await site.hops({ appPort, inboundPolicy: policy() });
    const answers = await meshed(hops, appPort, path);
    const [first = ""] = answers;
    expect(first).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(first).toContain("content-length: 0\r\n");
    expect(/l5d-proxy-error: (.*)\r\n/.exec(first)?.[1]).toMatch(message);
    expect(/\r\nl5d-proxy-connection: close\r\n/.test(first)).toBe(closes);
    expect(/\r\nconnection: close\r\n/.test(first)).toBe(closes);
    expect(answers).toHaveLength(closes ? 1 : 2);
    if (path === "/moved") expect(first).toContain("location: http://b/moved\r\n");

    // Whoever has no identity hears what, and not why.
    const [unmeshed = ""] = await plain(intercepted, path);
    expect(unmeshed).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(unmeshed).not.toContain("l5d-");
    expect(/\r\nconnection: close\r\n/.test(unmeshed)).toBe(closes);
  });

  test("an application that is not there: 502", async () => {
    const { hops } = await site.hops({ appPort: 1, inboundPolicy: policy() });
    const answers = await meshed(hops, 1, "/app");
    expect(answers).toHaveLength(1);
    expect(answers[0]).toMatch(/^HTTP\/1\.1 502 .*l5d-proxy-error: .*l5d-proxy-connection: close\r\n/s);
  });

  test("a rate limit: 429, the connection stays", async () => {
    const appPort = await app();
    const limited: InboundPolicy = inboundPolicy({
      ...detect(10_000, ...ROUTES),
      rateLimits: { ref: undefined, total: 1, perIdentity: undefined, overrides: [] },
    } as InboundPolicy["protocol"]);
    const { hops } = await site.hops({ appPort, inboundPolicy: limited });
    const answers = await meshed(hops, appPort, "/app");
    expect(answers.map((head) => head.split(" ")[1])).toEqual(["200", "429"]);
    expect(answers[1]).toMatch(/l5d-proxy-error: .*total rate limit exceeded: 1rps\r\n/);
    expect(answers[1]).not.toContain("l5d-proxy-connection");
    expect(answers[1]).not.toContain("retry-after");
  });

  test("a rate limit is the port's: on either road, in either version, whatever else of the policy changes", async () => {
    const appPort = await app();
    // One request in twenty seconds.
    const rateLimits = { ref: undefined, total: 0.05, perIdentity: undefined, overrides: [] };
    const limited = (kind: "http1" | "detect", ...routes: InboundRoute[]): InboundPolicy =>
      inboundPolicy(
        kind === "detect"
          ? ({ ...detect(10_000, ...routes), rateLimits } as InboundPolicy["protocol"])
          : { kind, routes, rateLimits },
      );
    const { hops, intercepted } = await site.hops({ appPort, inboundPolicy: limited("detect", ...ROUTES) });
    const session = connectHttp2(`http://127.0.0.1:${intercepted}`);
    sessions.push(session);
    const byHttp2 = async () => (await ask(session, "/app", { "l5d-orig-proto": "HTTP/1.1" }))[":status"];
    const byHttp1 = async () => (await plain(intercepted, "/app"))[0]?.split(" ")[1];
    const direct = async () => (await meshed(hops, appPort, "/app"))[0]?.split(" ")[1];
    expect([await byHttp2(), await byHttp1(), await direct()]).toEqual([200, "429", "429"]);
    const value = limited("http1", routeTo("/new"), ...ROUTES);
    hops.server.tell({ type: "discovery.inbound", key: `inbound ${appPort}`, value });
    expect([await byHttp1(), await direct(), await byHttp2()]).toEqual(["429", "429", 429]);
    hops.skip(21_000);
    expect([await direct(), await byHttp1()]).toEqual(["200", "429"]);
  });

  test("a port that has become opaque: 404 for what is open", async () => {
    const appPort = await app();
    const { hops } = await site.hops({ appPort, inboundPolicy: policy() });
    const heard = await new Promise<string[]>((resolve) => {
      const turn = (socket: TLSSocket, text: string) => {
        if (heads(text).length !== 1 || socket.writableEnded) return;
        const value = inboundPolicy({ kind: "opaque" });
        hops.server.tell({ type: "discovery.inbound", key: `inbound ${appPort}`, value });
        socket.end(THEN);
      };
      void speak(hops, { port: appPort, protocol: "http1" }, request("/app"), { heard: turn }).then((text) =>
        resolve(heads(text)),
      );
    });
    expect(heard.map((head) => head.split(" ")[1])).toEqual(["200", "404"]);
  });
});

/** An HTTP/2 client of an intercepted port, in plaintext. */
async function http2(
  options: HopsOptions,
): Promise<{ hops: Hops; session: ClientHttp2Session; goneAway: Promise<unknown> }> {
  const { hops, intercepted } = await site.hops(options);
  const session = connectHttp2(`http://127.0.0.1:${intercepted}`);
  session.on("error", () => {});
  sessions.push(session);
  const goneAway = new Promise((resolve) => session.once("goaway", resolve));
  await once(session, "connect");
  return { hops, session, goneAway };
}

type Heads = Record<string, string | number | undefined>;

function ask(session: ClientHttp2Session, path: string, more: Record<string, string> = {}): Promise<Heads> {
  const stream = session.request({ ":path": path, ":authority": "a", ...more });
  stream.on("error", () => {});
  stream.end();
  stream.resume();
  return new Promise((resolve) => {
    let heard: Heads = {};
    stream.on("response", (head) => {
      heard = head as Heads;
    });
    stream.on("close", () => resolve({ ...heard, rst: stream.rstCode }));
  });
}

const GRPC = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };

describe("gRPC", () => {
  const call = (service: string, authorizations: readonly Authorization[]): InboundRoute => ({
    ...routeTo(service),
    authorizations,
    rules: [{ matches: [{ kind: "grpc", service, method: "", headers: [] }], filters: [] }],
  });
  const routes = [
    call("x.Open", [ANYONE]),
    call("x.Denied", [NOBODY]),
    {
      ...call("x.Injected", [ANYONE]),
      rules: [
        {
          matches: [{ kind: "grpc" as const, service: "x.Injected", method: "", headers: [] }],
          filters: [
            { kind: "grpc-failure" as const, code: 10, message: "try again", ratio: { numerator: 1, denominator: 1 } },
          ],
        },
      ],
    },
  ];
  test.each<[string, string, string]>([
    ["no route", "/x.None/M", "5"],
    ["no authorization", "/x.Denied/M", "7"],
    ["an injected failure", "/x.Injected/M", "10"],
  ])("%s: 200 with a grpc-status, and no word more to strangers", async (_, path, code) => {
    const { session } = await http2({ appPort: 1, inboundPolicy: inboundPolicy(http("grpc", ...routes), []) });
    const heard = await ask(session, path, GRPC);
    expect(heard).toMatchObject({ ":status": 200, "content-type": "application/grpc", "grpc-status": code });
    expect(heard["grpc-message"]).toBeUndefined();
    expect(heard["l5d-proxy-error"]).toBeUndefined();
  });

  test("its status, from trailers, is on the page", async () => {
    const server = createHttp2();
    server.on("stream", (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "9" }));
      stream.end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const { hops, session } = await http2({ appPort: port, inboundPolicy: inboundPolicy(http("grpc", ...routes), []) });
    await ask(session, "/x.Open/M", GRPC);
    await until(() => hops.server.ended[0], "the exchange is over");
    expect(hops.server.metrics.format()).toMatch(
      /\nresponse_total\{direction="inbound",.*status_code="200",classification="success",grpc_status="9",error=""\} 1\n/,
    );
    server.close();
  });
});

describe("HTTP/2", () => {
  test("an application that does not listen: 504 once it has been waited for, 503 from then on, and GOAWAY", async () => {
    const { session, goneAway, hops } = await http2({ appPort: 1, inboundPolicy: policy() });
    expect(await ask(session, "/app")).toMatchObject({ ":status": 504 });
    await goneAway;
    const another = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: 1 });
    const again = connectHttp2(`http://127.0.0.1:${another}`);
    again.on("error", () => {});
    sessions.push(again);
    expect(await ask(again, "/app")).toMatchObject({ ":status": 503 });
  });

  test("an application that starts to listen in time serves the request that waits", async () => {
    const probe = createHttp2();
    probe.listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as AddressInfo;
    probe.close();
    await once(probe, "close");
    const { session } = await http2({ appPort: port, inboundPolicy: policy() });
    const waiting = ask(session, "/app");
    const server = createHttp2((_, response) => response.end("late"));
    server.listen(port, "127.0.0.1");
    expect(await waiting).toMatchObject({ ":status": 200 });
    server.close();
  });

  test("more requests in flight than may be: 503 for the next, until an answer has begun", async () => {
    const held: ServerResponse[] = [];
    const appPort = await site.http((_, response) => held.push(response));
    const has = (count: number) => until(() => held.length === count, `the application has ${count}`);
    const { hops, intercepted } = await site.hops({ appPort, inboundPolicy: policy(), maxInFlight: 1 });
    const first = plain(intercepted, "/app");
    await has(1);
    const [shed = ""] = await plain(intercepted, "/app");
    expect(shed).toMatch(/^HTTP\/1\.1 503 .*connection: close\r\n/s);
    // The direct road has a count of its own.
    const direct = speak(hops, { port: appPort, protocol: "http1" }, THEN);
    await has(2);
    held[1]?.end("slow");
    expect(await direct).toMatch(/^HTTP\/1\.1 200 /);
    held[0]?.end("slow");
    // Its second request.
    await has(3);
    held[2]?.end("slow");
    expect((await first).map((head) => head.split(" ")[1])).toEqual(["200", "200"]);
  });
});
