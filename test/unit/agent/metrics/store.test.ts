import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeEach, describe, expect, it } from "vitest";
import { MetricsStore, SlotRegistry } from "../../../../src/agent/metrics/index.ts";
import type { MetricsAnnouncement } from "../../../../src/proxy/core/messages.ts";
import { type Counter, LATENCY_MS_BUCKETS } from "../../../../src/proxy/core/metrics.ts";

const RETAIN_MS = 1000;

let now: number;
let store: MetricsStore;

beforeEach(() => {
  now = 0;
  store = new MetricsStore(() => now, RETAIN_MS, 5);
});

/** A worker whose messages travel at once. */
function worker(limit?: number) {
  const registry: SlotRegistry = new SlotRegistry((message) => writer.receive(structuredClone(message)), limit);
  const writer = store.addWriter((eviction) => registry.evict(eviction));
  return { registry, die: () => writer.end() };
}

function line(start: string): string | undefined {
  return store
    .format()
    .split("\n")
    .find((each) => each.startsWith(start));
}

/** Runs the garbage collector and lets finalizers speak. */
async function collect(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let i = 0; i < 3; i++) {
    gc();
    await new Promise(setImmediate);
  }
}

describe("counting", () => {
  it("shows a series with 0 from its first handle on", () => {
    const { registry } = worker();
    registry.counter("request_total", { direction: "inbound" });
    expect(line("request_total{")).toBe('request_total{direction="inbound"} 0');
  });

  it("adds up what all threads count", () => {
    const labels = { direction: "inbound" };
    const [a, b] = [worker(), worker()];
    a.registry.counter("request_total", labels).add(2);
    b.registry.counter("request_total", labels).add(3);
    store.registry.counter("request_total", labels).add(4);
    expect(line("request_total{")).toBe('request_total{direction="inbound"} 9');
  });

  it("gives the same handle for the same labels", () => {
    const { registry } = worker();
    expect(registry.counter("request_total", { a: "1" })).toBe(registry.counter("request_total", { a: "1" }));
    expect(registry.counter("request_total", { a: "1" })).not.toBe(registry.counter("request_total", { a: "2" }));
  });

  it("cuts latencies to whole milliseconds before it counts and sums them", () => {
    const { registry } = worker();
    const latency = registry.histogram("response_latency_ms", {}, LATENCY_MS_BUCKETS);
    latency.observe(1.9);
    latency.observe(50_000.5);
    latency.observe(50_001);
    expect(line('response_latency_ms_bucket{le="1"}')).toMatch(/ 1$/);
    expect(line('response_latency_ms_bucket{le="50000"}')).toMatch(/ 2$/);
    expect(line('response_latency_ms_bucket{le="+Inf"}')).toMatch(/ 3$/);
    expect(line("response_latency_ms_sum")).toBe("response_latency_ms_sum 100002");
  });

  it("uses more pages when one is full", () => {
    const messages: MetricsAnnouncement[] = [];
    const registry = new SlotRegistry((message) => messages.push(message));
    const handles = Array.from({ length: 400 }, (_, i) =>
      registry.histogram("response_latency_ms", { i: `${i}` }, LATENCY_MS_BUCKETS),
    );
    expect(handles).toHaveLength(400);
    expect(messages.filter((message) => message.type === "metrics.page")).toHaveLength(2);
  });

  it.each([
    ["an unknown family", () => worker().registry.counter("no_such_total", {})],
    ["the wrong type", () => worker().registry.gauge("request_total", {})],
    ["other buckets", () => worker().registry.histogram("response_latency_ms", {}, [1, 2])],
  ])("refuses %s", (_, use) => {
    expect(use).toThrow();
  });
});

describe("a worker's death", () => {
  it("lets no counter fall, and takes its gauges along", () => {
    const labels = { peer: "src" };
    const [first, second] = [worker(), worker()];
    first.registry.counter("tcp_open_total", labels).add(7);
    first.registry.gauge("tcp_open_connections", labels).set(5);
    second.registry.gauge("tcp_open_connections", labels).set(1);
    first.die();
    expect(line("tcp_open_total{")).toBe('tcp_open_total{peer="src"} 7');
    expect(line("tcp_open_connections{")).toBe('tcp_open_connections{peer="src"} 1');
    worker().registry.counter("tcp_open_total", labels).add(1);
    expect(line("tcp_open_total{")).toBe('tcp_open_total{peer="src"} 8');
  });

  it("keeps a histogram's buckets and sum", () => {
    const { registry, die } = worker();
    registry.histogram("response_latency_ms", {}, LATENCY_MS_BUCKETS).observe(3);
    die();
    expect(line('response_latency_ms_bucket{le="3"}')).toMatch(/ 1$/);
    expect(line("response_latency_ms_sum")).toMatch(/ 3$/);
  });
});

describe("the bound of label sets", () => {
  it("counts what a worker refuses, and goes on", () => {
    const { registry } = worker(2);
    const handles = ["a", "b", "c"].map((client_id) => registry.counter("request_total", { client_id }));
    for (const handle of handles) handle.add(1);
    expect(store.format().match(/^request_total\{/gm)).toHaveLength(2);
    expect(line("mesh_agent_metrics_overflow_total{")).toBe(
      'mesh_agent_metrics_overflow_total{family="request_total"} 1',
    );
  });

  it("holds for all workers together", () => {
    for (const name of ["a", "b"]) {
      const { registry } = worker();
      for (let i = 0; i < 4; i++) registry.counter("request_total", { client_id: `${name}${i}` }).add(1);
    }
    expect(store.format().match(/^request_total\{/gm)).toHaveLength(5);
    expect(line("mesh_agent_metrics_overflow_total{")).toMatch(/ 3$/);
  });
});

describe("retention", () => {
  it("keeps what somebody holds, however idle", async () => {
    const { registry } = worker();
    const held = registry.counter("request_total", {});
    held.add(1);
    store.sweep();
    await collect();
    now += 10 * RETAIN_MS;
    store.sweep();
    expect(line("request_total ")).toBe("request_total 1");
    held.add(1);
  });

  it("drops what nobody holds once it has been idle long enough, not before", async () => {
    const { registry } = worker();
    registry.counter("request_total", {}).add(1);
    store.sweep();
    await collect();
    now += RETAIN_MS - 1;
    store.sweep();
    expect(line("request_total ")).toBe("request_total 1");
    now += 1;
    store.sweep();
    expect(line("request_total ")).toBeUndefined();
  });

  it("counts from 0 in a fresh series after an eviction", async () => {
    const { registry } = worker();
    registry.counter("request_total", {}).add(5);
    store.sweep();
    await collect();
    now += RETAIN_MS;
    store.sweep();
    registry.counter("request_total", {}).add(2);
    expect(line("request_total ")).toBe("request_total 2");
  });

  it("takes a series up again that was let go", async () => {
    const { registry } = worker();
    registry.counter("request_total", {}).add(5);
    store.sweep();
    await collect();
    const again: Counter = registry.counter("request_total", {});
    now += RETAIN_MS;
    store.sweep();
    again.add(1);
    expect(line("request_total ")).toBe("request_total 6");
  });

  it("keeps the page whole when the answer of one worker is that it holds on", () => {
    const posted: number[] = [];
    const writer = store.addWriter(({ id }) => posted.push(id));
    const memory = new SharedArrayBuffer(64);
    new Float64Array(memory)[0] = 3;
    writer.receive({ type: "metrics.page", page: 0, memory });
    const place = { page: 0, slot: 0, buckets: [], labels: {}, family: "request_total" };
    writer.receive({ type: "metrics.series", id: 1, ...place });
    writer.receive({ type: "metrics.held", id: 1, held: false });
    const other = worker();
    other.registry.counter("request_total", {}).add(4);
    other.die();
    store.sweep();
    now += RETAIN_MS;
    store.sweep();
    expect(posted).toEqual([1]);
    expect(line("request_total ")).toBeUndefined();
    writer.receive({ type: "metrics.evicted", id: 1, values: undefined });
    expect(line("request_total ")).toBe("request_total 7");
  });

  it("drops what a dead worker left, when it is idle", () => {
    const { registry, die } = worker();
    registry.counter("request_total", {}).add(1);
    die();
    store.sweep();
    now += RETAIN_MS;
    store.sweep();
    expect(line("request_total ")).toBeUndefined();
  });

  it("never drops families with a fixed set of labels", async () => {
    store.registry.counter("outbound_http_errors_total", { error: "failfast" }).add(1);
    await collect();
    now += 10 * RETAIN_MS;
    store.sweep();
    expect(line("outbound_http_errors_total{")).toMatch(/ 1$/);
  });
});

it("ends the page with # EOF", () => {
  expect(store.format().endsWith("# EOF\n")).toBe(true);
});

it("can be read as numbers", () => {
  const { registry } = worker();
  registry.counter("request_total", { direction: "inbound" }).add(2);
  expect([...store.read("request_total")]).toEqual([
    { family: "request_total", labels: { direction: "inbound" }, values: new Float64Array([2]) },
  ]);
});
