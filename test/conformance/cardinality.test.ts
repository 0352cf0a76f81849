import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, expect, test } from "vitest";
import { familyNamed } from "../../src/agent/metrics/families.ts";
import { MAX_SERIES_PER_FAMILY, MetricsStore } from "../../src/agent/metrics/index.ts";
import { ExchangeRecorder } from "../../src/agent/recorder.ts";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { Hops } from "../support/hops.ts";
import { until } from "../support/until.ts";

/*
 * N08 (CVE-2025-43915): whoever chooses Hosts and paths chooses labels. `N08=200000` is the figure of the table, by hand.
 */

const REQUESTS = Number(process.env["N08"] ?? 3_000);
const CONNECTIONS = 20;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
function usedBytes(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.toReversed()) close();
  closers = [];
});

test(
  `${REQUESTS} different Hosts and paths: no series of their own, at most 50 MB (N08)`,
  async () => {
    const app = createServer({ keepAlive: false }, (_req, res) => res.end());
    app.listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    const appPort = (app.address() as AddressInfo).port;
    const hops = await Hops.start({
      appPort,
      inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 5_000, clusterNetworks: [] }),
    });
    closers.push(
      () => app.close(),
      () => hops.close(),
    );
    const { server } = hops;
    const recorder = new ExchangeRecorder({
      direction: "inbound",
      runtime: server.runtime,
      metrics: server.metrics.registry,
      identity: () => undefined,
      tapped: () => {},
    });
    let ended = 0;
    server.onEnded = (x) => {
      ended++;
      recorder.ended(x);
    };
    const port = await server.listenIntercepted({ ip: "127.0.0.1", port: appPort });
    const before = usedBytes();
    let next = 0;
    /** One request after the other, each to a Host and a path of its own. */
    const client = () =>
      new Promise<void>((resolve) => {
        const socket: Socket = connect(port, "127.0.0.1");
        const ask = () => {
          const i = next++;
          if (i >= REQUESTS) {
            socket.destroy();
            return resolve();
          }
          // As long as Hosts are in clusters.
          const host = `web-${i}.namespace-${i}.svc.cluster.local`;
          socket.write(`GET /path/${i} HTTP/1.1\r\nHost: ${host}\r\nX-Client: ${i}\r\n\r\n`);
        };
        socket.on("data", ask);
        socket.on("error", () => resolve());
        socket.on("close", () => resolve());
        ask();
      });
    await Promise.all(Array.from({ length: CONNECTIONS }, client));
    await until(() => ended >= REQUESTS, "all were counted");

    // What a client says of itself is no label.
    expect(server.metrics.format().split("\n").length).toBeLessThan(2_000);
    // Connections to the application are kept for a moment; what is asked is what stays.
    server.clock.skip(10_000);
    await until(
      () => new Promise<boolean>((resolve) => app.getConnections((_error, count) => resolve(count === 0))),
      "none is kept",
    );
    const grown = usedBytes() - before;
    console.info(`${(grown / 1e6).toFixed(1)} MB for ${REQUESTS} requests`);
    expect(grown).toBeLessThan(50e6);
  },
  20 * 60_000,
);

test("200,000 identities and destinations: 10,000 series a family, the rest counted, 50 MB, a page within a second (N08)", () => {
  const before = usedBytes();
  const store = new MetricsStore(() => 0);
  const families = {
    counter: ["request_total", "tcp_open_total", "inbound_http_authz_deny_total"],
    histogram: ["response_latency_ms"],
  };
  const SETS = 200_000;
  for (let i = 0; i < SETS; i++) {
    const labels = {
      direction: "inbound",
      client_id: `sa-${i}.ns.serviceaccount.identity.linkerd.cluster.local`,
      target_addr: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:80`,
    };
    for (const name of families.counter) store.registry.counter(name, labels).add(1);
    for (const name of families.histogram) store.registry.histogram(name, labels, familyNamed(name).buckets).observe(1);
  }
  const started = process.cpuUsage();
  const page = store.format();
  const { user, system } = process.cpuUsage(started);
  for (const name of families.counter) {
    expect(page.split(`\n${name}{`).length - 1).toBe(MAX_SERIES_PER_FAMILY);
    expect(page).toContain(`mesh_agent_metrics_overflow_total{family="${name}"} ${SETS - MAX_SERIES_PER_FAMILY}\n`);
  }
  expect(page.split(`\nresponse_latency_ms_count{`).length - 1).toBe(MAX_SERIES_PER_FAMILY);
  expect((user + system) / 1e3).toBeLessThan(1_000);
  const bytes = page.length;
  expect(usedBytes() - before - 2 * bytes).toBeLessThan(50e6);
});
