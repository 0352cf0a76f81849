/**
 * When linkerd2-proxy counts what, on exchanges that stay open or that nobody waits for: requests when they go out, latency
 * at the first frame of the answer, answers and durations when they end.
 */
import { once } from "node:events";
import { type ClientHttp2Stream, connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { onlyBackend } from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, routeTo } from "../../support/balanced.ts";
import { type HopProxy, Hops } from "../../support/hops.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
let hops: Hops;
let session: ReturnType<typeof connect>;
let called: Promise<ServerHttp2Stream>;

beforeEach(async () => {
  const app = createServer();
  called = new Promise((resolve) =>
    app.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      if (headers[":path"] === "/warm") {
        stream.respond({ ":status": 200 });
        stream.end();
      } else resolve(stream);
    }),
  );
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  hops = await Hops.start({ appPort: (app.address() as AddressInfo).port });
  session = connect(`http://127.0.0.1:${hops.port}`);
  session.on("error", () => {});
  open.push(app, hops, { close: () => session.destroy() });
  // Connections are there: nothing below waits for one.
  await once(request("/warm").resume(), "close");
  await until(
    () => sum(hops.server, "response_total") === 1 && sum(hops.client, "response_total") === 1,
    "all is warm",
  );
});
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

function request(path: string): ClientHttp2Stream {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
  stream.on("error", () => {});
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  return stream;
}

/** The family's value over all series whose labels fit. */
function sum(proxy: HopProxy, family: string, labels = /./): number {
  let total = 0;
  for (const line of proxy.metrics.format().split("\n"))
    if (line.startsWith(`${family}{`) && labels.test(line)) total += Number(line.slice(line.lastIndexOf(" ")));
  return total;
}

const OUTBOUND = "outbound_http_route";

/** Beyond the one request that warmed up. */
function counted(): Record<string, number> {
  const { client, server } = hops;
  const values = {
    "out requests": sum(client, "request_total"),
    "out latencies": sum(client, "response_latency_ms_count"),
    "out responses": sum(client, "response_total"),
    "out to backend": sum(client, `${OUTBOUND}_backend_requests_total`),
    "out of backend": sum(client, `${OUTBOUND}_backend_response_statuses_total`),
    "out statuses": sum(client, `${OUTBOUND}_request_statuses_total`),
    "out durations": sum(client, `${OUTBOUND}_request_duration_seconds_count`),
    "in allowed": sum(server, "inbound_http_authz_allow_total"),
    "in routed": sum(server, "inbound_http_requests_total"),
    "in statuses": sum(server, "inbound_http_statuses_total"),
    "in durations": sum(server, "inbound_http_request_duration_seconds_count"),
    "in requests": sum(server, "request_total"),
    "in latencies": sum(server, "response_latency_ms_count"),
    "in responses": sum(server, "response_total"),
  };
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== 1));
}

const SENT = { "out requests": 2, "out to backend": 2, "in allowed": 2, "in routed": 2, "in requests": 2 };
const BEGUN = { ...SENT, "out latencies": 2, "in latencies": 2 };
const ENDED = {
  ...BEGUN,
  "out responses": 2,
  "out of backend": 2,
  "out statuses": 2,
  "out durations": 2,
  "in statuses": 2,
  "in durations": 2,
  "in responses": 2,
};

describe("a stream is counted", () => {
  test("as a request while it is open, with its latency once content came, as a response when it ends", async () => {
    const stream = request("/a.B/Watch");
    const served = await called;
    expect(counted()).toEqual(SENT);
    served.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    await once(stream, "response");
    expect(counted()).toEqual(SENT);
    served.write(Buffer.from([0, 0, 0, 0, 0]));
    await once(stream, "data");
    expect(counted()).toEqual(BEGUN);
    served.on("wantTrailers", () => served.sendTrailers({ "grpc-status": "0" }));
    served.end();
    await once(stream, "close");
    await until(() => sum(hops.server, "response_total") === 2, "both have ended");
    expect(counted()).toEqual(ENDED);
  });

  test("as a request and nothing else when its client leaves before there is an answer", async () => {
    const stream = request("/a.B/Watch");
    const served = await called;
    const closed = once(served, "close");
    stream.close(8);
    await closed;
    expect(counted()).toEqual(SENT);
    expect(sum(hops.client, "outbound_http_errors_total")).toBe(0);
  });

  test("as what was known when its client leaves in the middle: no failure of the endpoint, an error of the route", async () => {
    const stream = request("/a.B/Watch");
    const served = await called;
    served.respond({ ":status": 200, "content-type": "application/grpc" });
    served.write(Buffer.from([0, 0, 0, 0, 0]));
    await once(stream, "data");
    const closed = once(served, "close");
    stream.close(8);
    await closed;
    expect(counted()).toEqual(ENDED);
    // The one that warmed up said nothing of how it ended either.
    const success = /classification="success",grpc_status="2",error=""/;
    expect([sum(hops.client, "response_total", success), sum(hops.server, "response_total", success)]).toEqual([2, 2]);
    for (const family of ["request_statuses_total", "backend_response_statuses_total"])
      expect(sum(hops.client, `${OUTBOUND}_${family}`, /http_status="200",error="UNKNOWN"/)).toBe(1);
  });

  test("without a latency when its content breaks before it came", async () => {
    const stream = request("/a.B/Watch");
    const served = await called;
    served.respond({ ":status": 200, "content-type": "application/grpc" });
    await once(stream, "response");
    // `close` would end the content properly first.
    served.destroy(new Error("broken"));
    await new Promise((resolve) => stream.once("close", resolve));
    await until(() => sum(hops.server, "response_total") === 2, "both have ended");
    const { "out latencies": _out, "in latencies": _in, ...rest } = ENDED;
    expect(counted()).toEqual(rest);
    expect(sum(hops.server, "response_total", /classification="failure".*error="h2\(INTERNAL_ERROR\)"/)).toBe(1);
  });
});

test("an answer that a route does not want is counted as the status it had", async () => {
  const app = new App((_req, res, call) => {
    res.statusCode = call === 1 ? 503 : 200;
    res.end("with content");
  });
  open.push(app);
  const balanced = await Balanced.start(
    routeTo(onlyBackend(backendOf("a:80")), {
      retry: {
        maxRetries: 1,
        maxRequestBytes: 65_536,
        statusRanges: [{ start: 500, end: 599 }],
        grpcCodes: [],
        timeoutMs: undefined,
        backoff: { minMs: 1, maxMs: 1, jitter: 0 },
      },
    }),
    { "a:80": [await app.listen()] },
  );
  open.push(balanced);
  expect((await ask(balanced.port)).status).toBe(200);
  await until(() => sum(balanced.proxy, `${OUTBOUND}_request_statuses_total`) === 1, "it has ended");
  const of = (status: number) =>
    sum(balanced.proxy, `${OUTBOUND}_backend_response_statuses_total`, new RegExp(`http_status="${status}",error=""`));
  expect([of(503), of(200), sum(balanced.proxy, "request_total")]).toEqual([1, 1, 2]);
});
