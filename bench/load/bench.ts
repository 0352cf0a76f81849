/**
 * Compares two of our hops with two of HAProxy's in the same run: HTTP/1 that travels as HTTP/2 over mutual TLS, bytes
 * over mutual TLS, handshakes, memory. Both are measured in turns, so that a busy machine is unfair to both alike; a
 * figure is the median of the rounds, a ratio is ours ÷ HAProxy's.
 *
 *   BENCH_SECONDS=5 BENCH_ROUNDS=5 node bench/load/bench.ts
 *
 * Writes bench/results.json and the table in bench/RESULTS.md. With BENCH_POLICY=1 it compares our inbound hop without
 * routes with itself with `policy.ts`'s, in turns, says what that costs a request, and writes nothing. With BENCH_IDLE=1
 * it says what an idle connection costs, in clear text and of a mesh peer, and writes nothing.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { createPki } from "../../src/lab/pki.ts";
import type { BulkResult } from "./bulk-source.ts";
import type { HandshakeResult } from "./handshakes.ts";
import {
  bundleHop,
  type Implementation,
  type Material,
  type Pair,
  startPage,
  startPair,
  TLS_GROUPS,
  type Traffic,
  writeMaterial,
} from "./hops.ts";
import { measureIdle } from "./idle.ts";
import { cpuSeconds, freePort, rssMb, run, runScript, startService, stopServices } from "./processes.ts";
import type { RateResult } from "./rate.ts";
import { type Figures, median, type Results, writeTable } from "./results.ts";

const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 5);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 5);
// A proxy runs for weeks. V8 has compiled what is hot after some 150,000 requests; before, one costs up to twice as much.
const WARM_UP_SECONDS = 12;
const IDENTITY = "bench.mesh.serviceaccount.identity.linkerd.cluster.local";
const ROOT = join(import.meta.dirname, "../..");
const BOTH = ["ours", "haproxy"] as const;

const folder = mkdtempSync(join(tmpdir(), "mesh-agent-bench-"));
process.once("SIGINT", () => {
  cleanUp();
  process.exit(130);
});
try {
  await main();
} finally {
  cleanUp();
}

function cleanUp(): void {
  stopServices();
  rmSync(folder, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const pki = await createPki();
  const leaf = await pki.issuer.issue({ dns: [IDENTITY] });
  const material = writeMaterial(folder, IDENTITY, leaf, pki.root.certificatePem);
  await bundleHop(folder);
  const sinkPort = await freePort();
  await startService(
    [process.execPath, join(import.meta.dirname, "bulk-sink.ts"), JSON.stringify({ port: sinkPort })],
    sinkPort,
  );
  const pagePort = await startPage(folder);
  if (process.env["BENCH_POLICY"] === "1") return costOfPolicy(pagePort, material);
  if (process.env["BENCH_IDLE"] === "1") return costOfIdle(pagePort, material);
  const pairs = async (traffic: Traffic, appPort: number): Promise<Record<(typeof BOTH)[number], Pair>> => ({
    ours: await startPair("ours", traffic, appPort, material),
    haproxy: await startPair("haproxy", traffic, appPort, material),
  });
  const http = {
    ...(await pairs("http", pagePort)),
    "haproxy-reuse": await startPair("haproxy-reuse", "http", pagePort, material),
  };
  const http2 = await pairs("http2", await startPage(folder, "2"));
  const grpc = await pairs("http2", await startGrpcApp());
  const opaque = await pairs("opaque", sinkPort);
  const idleMb = { ours: memoryMb(http.ours), haproxy: memoryMb(http.haproxy) };

  const concurrent = await compare("HTTP/1, 50 connections", [...BOTH, "haproxy-reuse"], (which, seconds) =>
    measureHttp(http[which], seconds),
  );
  const paced = await compare("HTTP/1, 2,000 requests/s", BOTH, (which, seconds) =>
    measureRate(http[which].frontPort, seconds),
  );
  const direct = await measureRate(pagePort, SECONDS);
  const streams = await compare("HTTP/2, 10 connections × 10 streams", BOTH, (which, seconds) =>
    measureHttp2(http2[which], seconds),
  );
  const calls = await compare("gRPC unary, 10 connections × 10 streams", BOTH, (which, seconds) =>
    measureHttp2(grpc[which], seconds, grpcCall()),
  );
  const loadedMb = { ours: memoryMb(http.ours), haproxy: memoryMb(http.haproxy) };
  const bulk = await compare("opaque bytes", BOTH, (which, seconds) => measureBulk(opaque[which], seconds));
  const handshake = await compare("handshakes", BOTH, (which, seconds) =>
    measureHandshakes(http[which], material, seconds),
  );

  const figures = (which: (typeof BOTH)[number]): Figures => ({
    meshed_http1_c50: throughput(concurrent[which]),
    meshed_http1_2000rps: { p50_ms: median(paced[which], "p50Ms"), p99_ms: median(paced[which], "p99Ms") },
    meshed_http2_c10_m10: throughput(streams[which]),
    meshed_grpc_c10_m10: throughput(calls[which]),
    opaque_bulk: {
      gb_per_cpu_second: 1 / median(bulk[which], "cpuSecondsPerGb"),
      gb_per_second: median(bulk[which], "gbPerSecond"),
    },
    handshake: {
      cpu_us: median(handshake[which], "cpuUs"),
      per_second: median(handshake[which], "perSecond"),
    },
    rss: { idle_mb: idleMb[which], loaded_mb: loadedMb[which] },
  });
  const results: Results = {
    ours: figures("ours"),
    haproxy: figures("haproxy"),
    haproxyReuse: throughput(concurrent["haproxy-reuse"]),
    direct: { p50_ms: direct.p50Ms, p99_ms: direct.p99Ms },
    about: {
      machine: `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores, Linux ${release()}`,
      node: process.version,
      commit: await commit(),
      haproxy: /version (\S+)/.exec(await run(["haproxy", "-v"]))?.[1] ?? "unknown",
      seconds: SECONDS,
      rounds: ROUNDS,
    },
  };
  writeTable(results, join(ROOT, "bench"));
}

async function costOfPolicy(pagePort: number, material: Material): Promise<void> {
  const which = ["ours", "ours-policy"] as const;
  const pairs = {
    ours: await startPair("ours", "http", pagePort, material),
    "ours-policy": await startPair("ours-policy", "http", pagePort, material),
  };
  const rounds = await compare("HTTP/1, 50 connections", which, async (name, seconds) => {
    const before = cpuSeconds(pairs[name].inboundPid);
    const { requestsPerSecond } = await measureHttp(pairs[name], seconds);
    const cpu = cpuSeconds(pairs[name].inboundPid) - before;
    return { inboundCpuUs: (cpu / (requestsPerSecond * seconds)) * 1e6, requestsPerSecond };
  });
  const [plain, routed] = which.map((name) => median(rounds[name], "inboundCpuUs")) as [number, number];
  console.log(
    `inbound hop, CPU per request: ${plain.toFixed(1)} µs without routes, ${routed.toFixed(1)} µs with (${(routed / plain).toFixed(3)} times)`,
  );
}

/** N02 and N03 of the attacks that must not break it. */
async function costOfIdle(pagePort: number, material: Material): Promise<void> {
  const scale = Number(process.env["BENCH_IDLE_SCALE"] ?? 1);
  const pair = await startPair("ours", "http", pagePort, material);
  for (const [name, count, mesh, budgetKb] of [
    ["in clear text", 9_000, false, 12],
    ["of mesh peers", 4_000, true, 72],
  ] as const) {
    const result = await measureIdle(pair, material, pagePort, Math.ceil(count * scale), mesh);
    const { held, beforeMb, heldMb, kbEach } = result;
    console.log(
      `${held} idle connections ${name}: ${kbEach.toFixed(1)} KB each (≤ ${budgetKb}), PSS ${beforeMb.toFixed(1)} → ${heldMb.toFixed(1)} MB`,
    );
  }
}

/** Measures all in turns, after a warm-up that is thrown away. */
async function compare<Which extends Implementation, Figure>(
  name: string,
  implementations: readonly Which[],
  measure: (which: Which, seconds: number) => Promise<Figure>,
): Promise<Record<Which, Figure[]>> {
  const figures = Object.fromEntries(implementations.map((which) => [which, [] as Figure[]])) as Record<
    Which,
    Figure[]
  >;
  for (const which of implementations) await measure(which, WARM_UP_SECONDS);
  for (let round = 0; round < ROUNDS; round++) {
    for (const which of implementations) {
      const figure = await measure(which, SECONDS);
      figures[which].push(figure);
      console.log(`${name}, round ${round + 1}, ${which}: ${JSON.stringify(figure)}`);
    }
  }
  return figures;
}

function throughput(rounds: readonly { cpuUs: number; requestsPerSecond: number }[]): Figures["meshed_http1_c50"] {
  return {
    cpu_us_per_request_hop: median(rounds, "cpuUs"),
    requests_per_second: median(rounds, "requestsPerSecond"),
  };
}

/** CPU seconds of both hops together while `work` runs. */
async function cpuWhile<Result>(pair: Pair, work: () => Promise<Result>): Promise<{ result: Result; cpu: number }> {
  const spent = (): number => cpuSeconds(pair.outboundPid) + cpuSeconds(pair.inboundPid);
  const before = spent();
  const result = await work();
  return { result, cpu: spent() - before };
}

async function measureHttp(pair: Pair, seconds: number): Promise<{ cpuUs: number; requestsPerSecond: number }> {
  const url = `http://127.0.0.1:${pair.frontPort}/`;
  const { result: text, cpu } = await cpuWhile(pair, () => run(["wrk", "-t1", "-c50", `-d${seconds}s`, url]));
  if (/Non-2xx|Socket errors/.test(text)) throw new Error(`requests failed:\n${text}`);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  return { cpuUs: (cpu / requests / 2) * 1e6, requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]) };
}

async function startGrpcApp(): Promise<number> {
  const port = await freePort();
  await startService([process.execPath, join(import.meta.dirname, "grpc-app.ts"), JSON.stringify({ port })], port);
  return port;
}

/** How h2load makes a unary call. */
function grpcCall(): readonly string[] {
  const message = join(folder, "message");
  writeFileSync(message, Buffer.from([0, 0, 0, 0, 6, 0x0a, 4, ...Buffer.from("mesh")]));
  return ["-H", "content-type: application/grpc", "-H", "te: trailers", "-d", message];
}

async function measureHttp2(
  pair: Pair,
  seconds: number,
  request: readonly string[] = [],
): Promise<{ cpuUs: number; requestsPerSecond: number }> {
  const url = `http://127.0.0.1:${pair.frontPort}/`;
  const { result: text, cpu } = await cpuWhile(pair, () =>
    run(["h2load", "-c10", "-m10", `-D${seconds}`, ...request, url]),
  );
  const [, done = 0, failed = 0] = (/(\d+) done, \d+ succeeded, (\d+) failed/.exec(text) ?? []).map(Number);
  if (done === 0 || failed > 0) throw new Error(`requests failed:\n${text}`);
  return { cpuUs: (cpu / done / 2) * 1e6, requestsPerSecond: done / seconds };
}

async function measureRate(port: number, seconds: number): Promise<RateResult> {
  const options = { port, requestsPerSecond: 2000, seconds, warmUpSeconds: 1, connections: 50 };
  const result = await runScript<RateResult>("rate", options);
  if (result.failures > 0) throw new Error(`requests failed: ${JSON.stringify(result)}`);
  return result;
}

async function measureBulk(pair: Pair, seconds: number): Promise<{ cpuSecondsPerGb: number; gbPerSecond: number }> {
  const options = { port: pair.frontPort, seconds, connections: 4 };
  const { result, cpu } = await cpuWhile(pair, () => runScript<BulkResult>("bulk-source", options));
  const gb = result.bytes / 1e9;
  return { cpuSecondsPerGb: cpu / gb / 2, gbPerSecond: gb / result.seconds };
}

async function measureHandshakes(
  pair: Pair,
  material: Material,
  seconds: number,
): Promise<{ cpuUs: number; perSecond: number }> {
  const before = cpuSeconds(pair.inboundPid);
  const result = await runScript<HandshakeResult>("handshakes", {
    port: pair.tlsPort,
    seconds,
    concurrency: 4,
    ...material,
    alpn: pair.implementation === "ours" ? "transport.l5d.io/v1" : "h2",
    groups: TLS_GROUPS,
  });
  if (result.failures > 0) throw new Error(`handshakes failed: ${JSON.stringify(result)}`);
  const cpu = cpuSeconds(pair.inboundPid) - before;
  return { cpuUs: (cpu / result.handshakes) * 1e6, perSecond: result.handshakes / result.seconds };
}

/** The larger of the two hops. */
function memoryMb(pair: Pair): number {
  return Math.max(rssMb(pair.outboundPid), rssMb(pair.inboundPid));
}

async function commit(): Promise<string> {
  const head = (await run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"])).trim();
  const changed = (await run(["git", "-C", ROOT, "status", "--porcelain", "src"])).trim();
  return changed === "" ? head : `${head} with changes`;
}
