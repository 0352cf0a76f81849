/**
 * The page of running proxies beside the table of metrics: families, types, labels in their order, buckets' text. A row of
 * the table without a test here is proved where it says.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import {
  connect as connectHttp2,
  createServer as createHttp2,
  type Http2Server,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect, createServer as createTcp, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { FAMILIES } from "../../../src/agent/metrics/families.ts";
import { parseCidr } from "../../../src/proxy/core/address.ts";
import {
  catchAllOutbound,
  defaultRef,
  type InboundPolicy,
  type InboundRoute,
  type OutboundPolicy,
  onlyBackend,
  type RetryPolicy,
} from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";
import { clientHello, serverName } from "../../support/client-hello.ts";
import { CLIENT_NAME, type HopProxy, Hops } from "../../support/hops.ts";
import { readTables } from "../../support/tables.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

// --- the table ---------------------------------------------------------------------------------------------------------

const BLOCKS: Readonly<Record<string, readonly string[]>> = {
  "*target*": ["target_addr", "target_ip", "target_port"],
  "*tls*": ["tls", "client_id|server_id|no_tls_reason|sni"],
  "*srv*": ["srv_group", "srv_kind", "srv_name", "srv_port"],
  "*rt*": ["route_group", "route_kind", "route_name"],
  "*authz*": ["authz_group", "authz_kind", "authz_name"],
  "*oroute*": ["route_group", "route_kind", "route_namespace", "route_name"],
  "*parent*": ["group", "kind", "namespace", "name", "port", "section_name"].map((each) => `parent_${each}`),
  "*backend*": ["group", "kind", "namespace", "name", "port", "section_name"].map((each) => `backend_${each}`),
};
const FREE: Readonly<Record<string, string>> = { "*dst*": "dst_\\w+", "*profile*": "rt_\\w+" };

interface Row {
  readonly type: string;
  /** Upper bounds as they stand on the page. */
  readonly bounds: readonly string[];
  /** Matches the label names of a series, each followed by a comma. */
  readonly labels: RegExp;
}

/** `a_{b,c}` is `a_b` and `a_c`, and so on for every brace. */
function expand(name: string): string[] {
  const brace = /\{([^}]*)\}/.exec(name);
  if (brace === null) return [name];
  return (brace[1] as string).split(",").flatMap((each) => expand(name.replace(brace[0], each)));
}

function labelPattern(cell: string): RegExp {
  let pattern = "";
  for (const part of cell.split(", ").filter((each) => each !== "")) {
    const optional = part.startsWith("[");
    const name = optional ? part.slice(1, -1) : part;
    const free = FREE[name];
    if (free !== undefined) pattern += `(?:${free},)*`;
    else pattern += `(?:${(BLOCKS[name] ?? [name]).map((each) => `(?:${each}),`).join("")})${optional ? "?" : ""}`;
  }
  return new RegExp(`^${pattern}$`);
}

const LATENCY = "1 2 3 4 5 10 20 30 40 50 100 200 300 400 500 1000 2000 3000 4000 5000 10000 20000 30000 40000 50000";

const TABLE: ReadonlyMap<string, Row> = new Map(
  readTables(readFileSync(join(import.meta.dirname, "../../tables/telemetry.md"), "utf8"))
    .filter(({ rule }) => rule.length === 5)
    .flatMap(({ rule: [family = "", type = "", labels = ""] }) =>
      expand(family).map((name): [string, Row] => {
        const [kind = "", ...bounds] = type.split(" ");
        const shown = type.includes("…") ? LATENCY.split(" ") : bounds;
        return [
          name,
          { type: kind, bounds: kind === "histogram" ? [...shown, "+Inf"] : [], labels: labelPattern(labels) },
        ];
      }),
    ),
);

test("the table and the code have the same families, of the same types", () => {
  expect([...TABLE].map(([name, { type }]) => `${name} ${type}`).sort()).toEqual(
    FAMILIES.map(({ name, type }) => `${name} ${type}`).sort(),
  );
});

// --- the page ----------------------------------------------------------------------------------------------------------

/** Checks every series of a page against the table. @returns The page's series by family, `name{labels} value`. */
function checked(proxy: HopProxy): Map<string, string[]> {
  const families = new Map<string, string[]>();
  const bounds = new Map<string, string[]>();
  for (const line of proxy.metrics.format().split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, sample = "", labels = ""] = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    const family = TABLE.has(sample) ? sample : sample.replace(/_(?:bucket|count|sum)$/, "");
    const row = TABLE.get(family);
    if (row === undefined) throw new Error(`not in the table: ${line}`);
    const names = [...labels.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)]
      .map((match) => match[1])
      .filter((name) => name !== "le");
    expect(names.map((name) => `${name},`).join(""), `labels of ${line}`).toMatch(row.labels);
    const le = /(?:^|,)le="([^"]*)"/.exec(labels)?.[1];
    if (le !== undefined) {
      const series = `${family} ${labels.replace(/(?:^|,)le="[^"]*"/, "")}`;
      bounds.set(series, [...(bounds.get(series) ?? []), le]);
    }
    families.set(family, [...(families.get(family) ?? []), line]);
  }
  for (const [series, found] of bounds)
    expect(found, `buckets of ${series}`).toEqual(TABLE.get(series.split(" ", 1)[0] as string)?.bounds);
  return families;
}

/** Waits for a series, then checks the whole page, on which these families must be. */
async function page(proxy: HopProxy, has: RegExp, families: readonly string[]): Promise<Map<string, string[]>> {
  await until(
    () =>
      proxy.metrics
        .format()
        .split("\n")
        .some((line) => has.test(line)) || undefined,
    `a page with ${has}`,
  );
  const found = checked(proxy);
  for (const family of families.flatMap(expand)) expect([...found.keys()]).toContain(family);
  return found;
}

async function listening(server: Server | Http2Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push(server);
  return (server.address() as AddressInfo).port;
}

async function hopsTo(appPort: number, options: Partial<Parameters<typeof Hops.start>[0]> = {}): Promise<Hops> {
  const hops = await Hops.start({ appPort, ...options });
  open.push(hops);
  return hops;
}

async function balanced(...args: Parameters<typeof Balanced.start>): Promise<Balanced> {
  const made = await Balanced.start(...args);
  open.push(made);
  return made;
}

const ROUTE = "outbound_http_route";

describe("the page has", () => {
  test("an exchange of two hops", async () => {
    const app = new App((_req, res) => res.end("hi"));
    open.push(app);
    const { address } = await app.listen();
    const hops = await hopsTo(address.port);
    expect((await ask(hops.port)).status).toBe(200);
    const client = await page(hops.client, /^response_total/, [
      "request_total",
      "response_latency_ms",
      `${ROUTE}_request_statuses_total`,
      `${ROUTE}_request_duration_seconds`,
      `${ROUTE}_backend_{requests_total,response_statuses_total,response_duration_seconds}`,
    ]);
    expect(client.get("response_total")).toEqual([
      expect.stringMatching(
        /\{direction="outbound",target_addr=.*,tls="true",server_id=".*",status_code="200",classification="success",grpc_status="",error=""\} 1$/,
      ),
    ]);
    expect(client.get(`${ROUTE}_request_statuses_total`)).toEqual([
      expect.stringMatching(/,hostname="",http_status="200",error=""\} 1$/),
    ]);
    const server = await page(hops.server, /^response_total/, [
      "request_total",
      "response_latency_ms",
      "inbound_http_{requests_total,statuses_total,request_duration_seconds}",
      "inbound_http_authz_allow_total",
    ]);
    expect(server.get("request_total")).toEqual([
      expect.stringContaining(`tls="true",client_id="${CLIENT_NAME}",srv_group="",srv_kind="default"`),
    ]);
  });

  test("gRPC under a policy of that kind", async () => {
    const server = createHttp2();
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      const code = headers["x-say"];
      stream.resume();
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers(code === undefined ? { a: "b" } : { "grpc-status": code }));
      stream.end(Buffer.from([0, 0, 0, 0, 0]));
    });
    const appPort = await listening(server);
    const all: InboundRoute = {
      ref: defaultRef("all"),
      hosts: [],
      authorizations: [],
      rules: [{ matches: [{ kind: "grpc", service: "a.B", method: "", headers: [] }], filters: [] }],
    };
    const hops = await hopsTo(appPort, {
      inboundPolicy: {
        source: "api",
        ref: defaultRef("grpc"),
        protocol: { kind: "grpc", routes: [all], rateLimits: undefined },
        authorizations: [
          {
            ref: defaultRef("anyone"),
            networks: [{ net: parseCidr("0.0.0.0/0") as never, except: [] }],
            authentication: { kind: "none" },
          },
        ],
      } satisfies InboundPolicy,
      policy: (policy) => {
        const http = policy.http2 && {
          ...policy.http2,
          routes: policy.http2.routes.map((route) => ({
            ...route,
            rules: route.rules.map((rule) => ({ ...rule, classify: { kind: "grpc" as const } })),
          })),
        };
        return { ...policy, kind: "grpc", http2: http, http1: http };
      },
    });
    const session = connectHttp2(`http://127.0.0.1:${hops.port}`);
    session.on("error", () => {});
    open.push({ close: () => session.destroy() });
    for (const say of ["0", "5", "14", undefined]) {
      const stream = session.request({
        ":method": "POST",
        ":path": "/a.B/C",
        "content-type": "application/grpc",
        ...(say === undefined ? {} : { "x-say": say }),
      });
      stream.resume().end();
      await once(stream, "close");
    }
    const prefix = "outbound_grpc_route";
    const client = await page(hops.client, /^response_total.*classification="success",grpc_status="2"/, [
      `${prefix}_request_duration_seconds`,
      `${prefix}_backend_{requests_total,response_duration_seconds}`,
    ]);
    const said = (family: string, label: RegExp) =>
      (client.get(family) ?? []).map((line) => label.exec(line)?.[1]).sort();
    for (const family of [`${prefix}_request_statuses_total`, `${prefix}_backend_response_statuses_total`])
      expect(said(family, /grpc_status="(\w*)",error=""/)).toEqual(["NOT_FOUND", "OK", "UNAVAILABLE", "UNKNOWN"]);
    expect(said("response_total", /classification="(\w+",grpc_status="\d+)"/)).toEqual([
      'failure",grpc_status="14',
      'success",grpc_status="0',
      'success",grpc_status="2',
      'success",grpc_status="5',
    ]);
    await page(hops.server, /^inbound_grpc_statuses_total.*status="14"/, [
      "inbound_grpc_{requests_total,request_duration_seconds}",
    ]);
  });

  test("a ServiceProfile's route", async () => {
    const app = new App((_req, res, call) => {
      res.statusCode = call === 1 ? 500 : 200;
      res.end();
    });
    open.push(app);
    const policy = routeTo(onlyBackend(backendOf("a:80")), {
      budgetedRetry: true,
      classify: { kind: "profile", classes: [] },
    });
    const http = policy.http1 && {
      ...policy.http1,
      routes: policy.http1.routes.map((route) => ({ ...route, labels: { route: "GET /" } })),
      retryBudget: { ratio: 0.2, minRetriesPerSecond: 10, ttlMs: 10_000 },
      canonical: "a.shop.svc.cluster.local:80",
    };
    const { port, proxy } = await balanced({ ...policy, http1: http, http2: http }, { "a:80": [await app.listen()] });
    expect((await ask(port)).status).toBe(200);
    const found = await page(proxy, /^route_response_total/, [
      "route_{request,actual_request}_total",
      "route_response_latency_ms",
    ]);
    const labels = 'direction="outbound",dst="a.shop.svc.cluster.local:80",rt_route="GET /"';
    expect(found.get("route_response_total")).toEqual([
      `route_response_total{${labels},status_code="200",classification="success",grpc_status="",error=""} 1`,
    ]);
    expect(found.get("route_actual_request_total")).toEqual([`route_actual_request_total{${labels}} 2`]);
    expect(found.get("route_actual_response_total")).toHaveLength(2);
  });

  test("what a policy refuses", async () => {
    const app = new App((_req, res) => res.end("hi"));
    open.push(app);
    const { address } = await app.listen();
    const everywhere = [{ net: parseCidr("0.0.0.0/0") as never, except: [] }];
    const route = (name: string, identity: string): InboundRoute => ({
      ref: defaultRef(name),
      hosts: [],
      authorizations: [
        {
          ref: defaultRef("only"),
          networks: everywhere,
          authentication: { kind: "identities", identities: [identity], suffixes: [] },
        },
      ],
      rules: [
        {
          matches: [
            { kind: "http", method: undefined, path: { kind: "prefix", prefix: `/${name}` }, headers: [], query: [] },
          ],
          filters: [],
        },
      ],
    });
    const rateLimits = { ref: defaultRef("limit"), total: 1, perIdentity: undefined, overrides: [] };
    const hops = await hopsTo(address.port, {
      inboundPolicy: {
        source: "api",
        ref: defaultRef("server"),
        protocol: {
          kind: "detect",
          timeoutMs: 500,
          routes: [route("foo", CLIENT_NAME), route("bar", "other.ns")],
          rateLimits,
        },
        authorizations: [],
      },
    });
    const statuses = [];
    for (const path of ["/foo", "/foo", "/bar", "/"]) statuses.push((await ask(hops.port, { path })).status);
    expect(statuses).toEqual([200, 429, 403, 404]);
    const found = await page(hops.server, /^inbound_http_route_not_found_total/, [
      "inbound_http_authz_{allow,deny}_total",
      "inbound_http_local_ratelimit_total",
      "inbound_http_errors_total",
    ]);
    expect(found.get("inbound_http_authz_allow_total")).toEqual([expect.stringMatching(/ 2$/)]);
    expect(found.get("inbound_http_errors_total")).toEqual([expect.stringMatching(/\{error="unexpected",.* 1$/)]);
    // Neither is a request that the application could have answered.
    expect(found.get("request_total")).toEqual([expect.stringMatching(/ 1$/)]);
  });

  test("retries", async () => {
    const policy: RetryPolicy = {
      maxRetries: 1,
      maxRequestBytes: 65_536,
      statusRanges: [{ start: 500, end: 599 }],
      grpcCodes: [],
      timeoutMs: undefined,
      backoff: { minMs: 1, maxMs: 2, jitter: 0 },
    };
    // Twice a failure, then the retry of the second request is answered; then nobody listens.
    const app = new App((_req, res, call) => {
      res.statusCode = call === 4 ? 200 : 503;
      res.end();
    });
    const { port, proxy } = await balanced(routeTo(onlyBackend(backendOf("a:80")), { retry: policy }), {
      "a:80": [await app.listen()],
    });
    expect((await ask(port)).status).toBe(503);
    expect((await ask(port)).status).toBe(200);
    app.close();
    expect((await ask(port)).status).toBe(502);
    const retry = `${ROUTE}_retry`;
    const found = await page(proxy, /^outbound_http_errors_total/, [
      "outbound_http_balancer_{endpoints,p2c_endpoints,queue_length,p2c_updates_total,queue_requests_total,queue_latency_seconds}",
      "outbound_http_balancer_queue_gate_{open,shut}_total",
    ]);
    expect(found.get(`${retry}_requests_total`)).toEqual([expect.stringMatching(/,hostname=""\} 3$/)]);
    expect(found.get(`${retry}_successes_total`)).toEqual([expect.stringMatching(/ 1$/)]);
    expect(found.get(`${retry}_limit_exceeded_total`)).toEqual([expect.stringMatching(/ [12]$/)]);
    expect(found.get(`${retry}_overflow_total`)).toEqual([expect.stringMatching(/ 0$/)]);
    expect(found.get("outbound_http_balancer_endpoints")).toEqual([
      expect.stringMatching(/\{endpoint_state="ready",parent_group=.* 1$/),
      expect.stringMatching(/\{endpoint_state="pending",parent_group=.* 0$/),
    ]);
    // Attempts are what a backend is sent, requests what programs ask.
    expect(found.get(`${ROUTE}_backend_requests_total`)).toEqual([expect.stringMatching(/ 6$/)]);
    expect(found.get(`${ROUTE}_request_statuses_total`)?.map((line) => / (\d+)$/.exec(line)?.[1])).toEqual([
      "1",
      "1",
      "1",
    ]);
  });

  test("detection", async () => {
    const app = createServer((_req, res) => res.end("hi"));
    const hops = await hopsTo(await listening(app));
    expect((await ask(hops.port)).status).toBe(200);
    // The direct road says what it carries; an intercepted connection is looked at.
    const intercepted = await hops.server.listenIntercepted({
      ip: "127.0.0.1",
      port: (app.address() as AddressInfo).port,
    });
    expect((await ask(intercepted)).status).toBe(403);
    const all = ["error", "http/1", "http/2", "not_http", "read_timeout"];
    for (const [proxy, side] of [
      [hops.client, "outbound"],
      [hops.server, "inbound"],
    ] as const) {
      const found = await page(proxy, new RegExp(`^${side}_tcp_detect_http_results_total.* 1$`), [
        `${side}_tcp_detect_http_duration_seconds`,
      ]);
      const results = found.get(`${side}_tcp_detect_http_results_total`) ?? [];
      expect(results.map((line) => /result="([^"]*)"/.exec(line)?.[1]).sort()).toEqual(all);
    }
  });

  const balancing = (kind: "tcp" | "tls") => [
    `outbound_${kind}_balancer_{endpoints,p2c_endpoints,queue_length,p2c_updates_total,queue_requests_total}`,
    `outbound_${kind}_balancer_{queue_latency_seconds,queue_gate_open_total,queue_gate_shut_total}`,
  ];

  async function echoed(kind: "tcp" | "tls", say: Buffer): Promise<Balanced> {
    const server = createTcp((socket: Socket) => socket.on("error", () => {}).pipe(socket));
    const endpoint = await endpointOf(server);
    open.push(server);
    const policy = routeTo(onlyBackend(backendOf("a:80")));
    const opaque = { ...catchAllOutbound(defaultRef("route"), onlyBackend(backendOf("a:80"))), filters: [], snis: [] };
    const route = { ref: opaque.ref, snis: [], filters: [], distribution: onlyBackend(backendOf("a:80")) };
    const site = await balanced(
      (kind === "tcp"
        ? { ...policy, kind: "opaque", opaque: route }
        : { ...policy, kind: "tls", tls: [route] }) as OutboundPolicy,
      { "a:80": [endpoint] },
    );
    await echo(site.port, say);
    return site;
  }

  async function echo(port: number, say: Buffer): Promise<void> {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(say);
    expect((await once(socket, "data"))[0]).toEqual(say);
    socket.destroy();
  }

  test("opaque connections that are balanced", async () => {
    const { proxy } = await echoed("tcp", Buffer.from("hello"));
    const found = await page(proxy, /^outbound_tcp_route_close_total.*error=""\} 1$/, balancing("tcp"));
    expect(found.get("outbound_tcp_balancer_endpoints")?.[0]).toContain('endpoint_state="ready",parent_group=');
    expect(found.get("outbound_tcp_balancer_p2c_updates_total")).toEqual([expect.stringMatching(/\{op="Reset",.* 1$/)]);
  });

  test("opaque connections to what has a name are not counted by address", async () => {
    const site = await echoed("tcp", Buffer.from("hello"));
    const { port, policy } = site;
    site.update(policy, "a.ns.svc.cluster.local");
    await echo(port, Buffer.from("hello"));
    const found = await page(site.proxy, /^outbound_tcp_route_open_total.*target_ip=""/, []);
    const targets = [`target_ip="127.0.0.1",target_port="${port}"} 1`, `target_ip="",target_port="${port}"} 1`];
    expect(found.get("outbound_tcp_route_open_total")?.map((line) => line.replace(/.*,(?=target_ip)/, ""))).toEqual(
      targets,
    );
  });

  test("TLS by its server name", async () => {
    const { proxy } = await echoed("tls", clientHello({ extensions: [serverName("db.shop")] }));
    const found = await page(proxy, /^outbound_tls_route_close_total.*error=""\} 1$/, balancing("tls"));
    expect(found.get("outbound_tls_route_open_total")).toEqual([expect.stringMatching(/,hostname="db.shop"\} 1$/)]);
  });
});
