import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Pools, type PoolUnderTest } from "../../support/pools.ts";
import { until } from "../../support/until.ts";

const PER_SECOND = 200;
const COUNTERS = ["request_total", "response_total", "response_latency_ms", "tcp_open_total", "tcp_read_bytes_total"];

const folder = mkdtempSync(join(tmpdir(), "worker-pool-"));
/** Bundled as in the product: a worker that reads a hundred source files takes its time to start. */
const script = join(folder, "worker.mjs");
let app: Server;
let appPort: number;
let pools: Pools | undefined;

beforeAll(async () => {
  await build({
    entryPoints: [join(import.meta.dirname, "../../../src/agent/worker.ts")],
    outfile: script,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node26",
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    logLevel: "error",
  });
  app = createServer((req, res) => res.end(`saw ${req.url}`)).listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  appPort = (app.address() as AddressInfo).port;
});
afterAll(() => {
  app.closeAllConnections();
  app.close();
  rmSync(folder, { recursive: true });
});
afterEach(async () => {
  await pools?.stop();
  pools = undefined;
});

/** Opens connections at a fixed rate, one request on each, and tells what became of them. */
class NewConnections {
  readonly #port: number;
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  opened = 0;
  answered = 0;
  refused = 0;
  /** Established connections that ended without an answer, and when. */
  readonly broken: number[] = [];
  #under = 0;

  constructor(port: number) {
    this.#port = port;
  }

  start(): void {
    this.#startedAt = performance.now();
    this.#timer = setInterval(() => {
      const due = ((performance.now() - this.#startedAt) / 1_000) * PER_SECOND;
      while (this.opened < due) this.#one();
    }, 5);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await until(() => this.#under === 0, "the last connections have ended");
  }

  #one(): void {
    this.opened++;
    this.#under++;
    const socket = connect(this.#port, "127.0.0.1");
    let connected = false;
    let seen = "";
    socket.on("connect", () => {
      connected = true;
      socket.write("GET /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    });
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#under--;
      if (!connected) this.refused++;
      else if (seen.includes("saw /new")) this.answered++;
      else this.broken.push(performance.now());
    });
  }
}

/** A connection that a program keeps, asking something from time to time. */
class Kept {
  readonly name: string;
  readonly socket: Socket;
  worker = -1;
  #seen = "";

  constructor(port: number, name: string) {
    this.name = name;
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk: Buffer) => {
      this.#seen += chunk.toString();
    });
  }

  get alive(): boolean {
    return !this.socket.destroyed;
  }

  async ask(what: string): Promise<void> {
    const path = `/${this.name}/${what}`;
    this.socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await until(() => this.#seen.includes(`saw ${path}`), `${path} is answered`);
  }
}

/** Opens connections one after the other until every worker has some. */
async function keep(client: PoolUnderTest, port: number, perWorker: number): Promise<Kept[]> {
  client.pool.tap(true);
  const kept: Kept[] = [];
  const had = (worker: number) => kept.filter((each) => each.worker === worker).length;
  while ([0, 1, 2].some((worker) => had(worker) < perWorker)) {
    expect(kept.length).toBeLessThan(500);
    const next = new Kept(port, `kept-${kept.length}`);
    kept.push(next);
    await next.ask("first");
    const tap = () => client.taps.find(({ event }) => event.path === `/${next.name}/first`);
    next.worker = (await until(tap, "the connection's worker is known")).worker;
  }
  client.pool.tap(false);
  return kept;
}

/** Looks at the counters again and again, and collects those that fell. */
function watchCounters(client: PoolUnderTest): () => string[] {
  const seen = new Map<string, number>();
  const fallen: string[] = [];
  const look = () => {
    for (const family of COUNTERS)
      for (const { labels, values } of client.metrics.read(family)) {
        const key = `${family} ${JSON.stringify(labels)}`;
        const value = values.reduce((sum, each) => sum + each, 0);
        if (value < (seen.get(key) ?? 0)) fallen.push(key);
        seen.set(key, value);
      }
  };
  const timer = setInterval(look, 20);
  return () => {
    clearInterval(timer);
    look();
    return fallen;
  };
}

function requests(client: PoolUnderTest): number {
  let sum = 0;
  for (const { values } of client.metrics.read("request_total")) sum += values[0] ?? 0;
  return sum;
}

const VICTIM = 1;

describe("a worker that dies takes its own connections and nothing else", () => {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  async function prove(kill: (pool: PoolUnderTest) => void, heapMb?: number): Promise<void> {
    let spawned = 0;
    pools = await Pools.start({
      appPort,
      clients: 3,
      servers: 1,
      // The limit holds for the first life of the victim only.
      spawn: (workerData) =>
        new Worker(script, {
          workerData,
          resourceLimits:
            workerData.index === VICTIM && heapMb !== undefined && spawned++ === 0
              ? { maxOldGenerationSizeMb: heapMb, maxYoungGenerationSizeMb: 8 }
              : {},
        }),
    });
    const { client, port } = pools;
    const kept = await keep(client, port, 5);
    const counters = watchCounters(client);
    const load = new NewConnections(port);
    load.start();
    await pause(1_000);

    const { restarts } = client.pool;
    const before = requests(client);
    const gone = new Promise((resolve) => client.workers.get(VICTIM)?.once("exit", resolve));
    const orderedAt = performance.now();
    kill(client);
    await gone;
    const diedAt = performance.now();
    await until(() => client.pool.ready === 3, "the worker is back");
    const backAfterMs = performance.now() - diedAt;
    await pause(1_500);
    const answered = load.answered;
    await pause(500);
    await load.stop();

    expect(client.pool.restarts).toBe(restarts + 1);
    expect(backAfterMs).toBeLessThan(1_000);
    expect(load.refused).toBe(0);
    expect(load.opened).toBeGreaterThan(2.5 * PER_SECOND);
    // What broke was in the victim's hands when it died; nothing breaks before or after.
    for (const at of load.broken) {
      expect(at).toBeGreaterThan(orderedAt - 50);
      expect(at).toBeLessThan(diedAt + 250);
    }
    expect(load.broken.length + load.answered).toBe(load.opened);
    expect(load.answered - answered).toBeGreaterThan(0.4 * PER_SECOND);

    for (const each of kept) expect([each.name, each.alive]).toEqual([each.name, each.worker !== VICTIM]);
    await Promise.all(kept.filter((each) => each.alive).map((each) => each.ask("second")));
    for (const each of kept) each.socket.destroy();
    expect(counters()).toEqual([]);
    expect(requests(client)).toBeGreaterThan(before);
  }

  test("by an exception that nobody caught", async () => {
    await prove((client) => client.workers.get(VICTIM)?.postMessage(undefined));
    expect(pools?.client.log.lines).toContain("error a proxy worker died");
  });

  test("by being terminated", async () => {
    await prove((client) => void client.workers.get(VICTIM)?.terminate());
  });

  test("by reaching its heap's limit", async () => {
    // An answer of the control plane that is larger than the heap.
    const endpoints = Array.from({ length: 400_000 }, (_, i) => ({
      key: `10.0.0.1:${i}`,
      labels: { pod: `pod-${i}` },
    }));
    await prove(
      (client) =>
        client.workers
          .get(VICTIM)
          ?.postMessage({ type: "discovery.endpoints", key: "endpoints a", reset: true, add: endpoints, remove: [] }),
      48,
    );
    expect(pools?.client.log.lines).toContain("error a proxy worker died");
  });
});
