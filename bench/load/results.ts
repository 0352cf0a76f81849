import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What is measured of one implementation: medians over the rounds. */
export interface Figures {
  readonly meshed_http1_c50: { readonly cpu_us_per_request_hop: number; readonly requests_per_second: number };
  readonly meshed_http1_2000rps: { readonly p50_ms: number; readonly p99_ms: number };
  /** HTTP/2 in clear text at both ends: 10 connections of 10 streams each. */
  readonly meshed_http2_c10_m10: Figures["meshed_http1_c50"];
  /** The same with gRPC calls of one small message each way. */
  readonly meshed_grpc_c10_m10: Figures["meshed_http1_c50"];
  /** Per hop: a gigabyte (10^9 bytes) that crosses both hops counts twice. */
  readonly opaque_bulk: { readonly gb_per_cpu_second: number; readonly gb_per_second: number };
  /** The server's side. */
  readonly handshake: { readonly cpu_us: number; readonly per_second: number };
  /** One hop. */
  readonly rss: { readonly idle_mb: number; readonly loaded_mb: number };
}

export interface Results {
  readonly ours: Figures;
  readonly haproxy: Figures;
  /** HAProxy with `http-reuse always`, 50 connections. */
  readonly haproxyReuse: Figures["meshed_http1_c50"];
  /** The application without any hop, at 2,000 requests/s. */
  readonly direct: { readonly p50_ms: number; readonly p99_ms: number };
  readonly about: {
    readonly machine: string;
    readonly node: string;
    readonly commit: string;
    readonly haproxy: string;
    readonly seconds: number;
    readonly rounds: number;
  };
}

/** One row of the table: what is measured, on both sides, and what the ratio has to be. */
interface Row {
  readonly name: string;
  readonly key: string;
  readonly ours: number;
  readonly haproxy: number;
  /** The bound of ours ÷ HAProxy's. */
  readonly budget: { readonly atMost: number } | { readonly atLeast: number } | undefined;
}

function rows({ ours, haproxy, haproxyReuse }: Results): Row[] {
  const row = (name: string, key: string, pick: (figures: Figures) => number, budget?: Row["budget"]): Row => ({
    name,
    key,
    ours: pick(ours),
    haproxy: pick(haproxy),
    budget,
  });
  return [
    row(
      "HTTP/1, 50 connections: CPU per request and hop, µs",
      "meshed_http1_c50.cpu_ratio",
      (f) => f.meshed_http1_c50.cpu_us_per_request_hop,
      { atMost: 0.5 },
    ),
    row(
      "HTTP/1, 50 connections: requests/s",
      "meshed_http1_c50.throughput_ratio",
      (f) => f.meshed_http1_c50.requests_per_second,
      { atLeast: 2 },
    ),
    {
      name: "the same against HAProxy with `http-reuse always`: CPU, µs",
      key: "meshed_http1_c50.cpu_ratio_reuse_always",
      ours: ours.meshed_http1_c50.cpu_us_per_request_hop,
      haproxy: haproxyReuse.cpu_us_per_request_hop,
      budget: undefined,
    },
    {
      name: "the same against HAProxy with `http-reuse always`: requests/s",
      key: "meshed_http1_c50.throughput_ratio_reuse_always",
      ours: ours.meshed_http1_c50.requests_per_second,
      haproxy: haproxyReuse.requests_per_second,
      budget: undefined,
    },
    row("HTTP/1, 2,000 requests/s: p50, ms", "", (f) => f.meshed_http1_2000rps.p50_ms),
    row("HTTP/1, 2,000 requests/s: p99, ms", "meshed_http1_2000rps.p99_ratio", (f) => f.meshed_http1_2000rps.p99_ms, {
      atMost: 1,
    }),
    row(
      "HTTP/2, 10 connections × 10 streams: CPU per request and hop, µs",
      "meshed_http2_c10_m10.cpu_ratio",
      (f) => f.meshed_http2_c10_m10.cpu_us_per_request_hop,
      { atMost: 1 },
    ),
    row("HTTP/2, 10 connections × 10 streams: requests/s", "", (f) => f.meshed_http2_c10_m10.requests_per_second),
    row(
      "gRPC unary, 10 connections × 10 streams: CPU per call and hop, µs",
      "meshed_grpc_c10_m10.cpu_ratio",
      (f) => f.meshed_grpc_c10_m10.cpu_us_per_request_hop,
      { atMost: 1 },
    ),
    row("gRPC unary, 10 connections × 10 streams: calls/s", "", (f) => f.meshed_grpc_c10_m10.requests_per_second),
    row(
      "opaque bytes: CPU seconds per GB and hop",
      "opaque_bulk.cpu_ratio",
      (f) => 1 / f.opaque_bulk.gb_per_cpu_second,
      { atMost: 1.1 },
    ),
    row("opaque bytes: GB/s", "", (f) => f.opaque_bulk.gb_per_second),
    row("mutual TLS handshake: CPU of the server, µs", "handshake.cpu_ratio", (f) => f.handshake.cpu_us, { atMost: 1 }),
    row("mutual TLS handshakes/s", "", (f) => f.handshake.per_second),
    row("resident memory of a hop, idle, MB", "", (f) => f.rss.idle_mb),
    row("resident memory of a hop, after the load, MB", "", (f) => f.rss.loaded_mb),
  ];
}

/** The middle one of a figure's values. */
export function median<Figure>(figures: readonly Figure[], key: keyof Figure): number {
  const sorted = figures.map((figure) => Number(figure[key])).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2;
}

const BEGIN = "<!-- begin: written by make bench -->";
const END = "<!-- end: written by make bench -->";

/** Prints the table and writes it to RESULTS.md, between its marks, and to results.json. */
export function writeTable(results: Results, folder: string): void {
  const table = rows(results);
  const ratios = new Map(table.map((row) => [row.key, round(row.ours / row.haproxy)]));
  const { ours, haproxy, direct, about } = results;
  const json = {
    ...about,
    meshed_http1_c50: {
      ...rounded(ours.meshed_http1_c50),
      cpu_ratio: ratios.get("meshed_http1_c50.cpu_ratio"),
      throughput_ratio: ratios.get("meshed_http1_c50.throughput_ratio"),
      cpu_ratio_reuse_always: ratios.get("meshed_http1_c50.cpu_ratio_reuse_always"),
      throughput_ratio_reuse_always: ratios.get("meshed_http1_c50.throughput_ratio_reuse_always"),
    },
    meshed_http1_2000rps: {
      ...rounded(ours.meshed_http1_2000rps),
      p99_ratio: ratios.get("meshed_http1_2000rps.p99_ratio"),
    },
    meshed_http2_c10_m10: {
      ...rounded(ours.meshed_http2_c10_m10),
      cpu_ratio: ratios.get("meshed_http2_c10_m10.cpu_ratio"),
    },
    meshed_grpc_c10_m10: {
      ...rounded(ours.meshed_grpc_c10_m10),
      cpu_ratio: ratios.get("meshed_grpc_c10_m10.cpu_ratio"),
    },
    opaque_bulk: { ...rounded(ours.opaque_bulk), cpu_ratio: ratios.get("opaque_bulk.cpu_ratio") },
    handshake: { ...rounded(ours.handshake), cpu_ratio: ratios.get("handshake.cpu_ratio") },
    rss: rounded(ours.rss),
    haproxy_figures: Object.fromEntries(Object.entries(haproxy).map(([key, figures]) => [key, rounded(figures)])),
    direct_2000rps: rounded(direct),
  };
  writeFileSync(join(folder, "results.json"), `${JSON.stringify(json, undefined, 2)}\n`);

  const markdown = [
    `${about.machine}; Node ${about.node}; HAProxy ${about.haproxy}, one thread; commit ${about.commit};`,
    `\`BENCH_SECONDS=${about.seconds} BENCH_ROUNDS=${about.rounds} make bench\`. Without any hop, 2,000 requests/s: p50 ${round(direct.p50_ms)} ms, p99 ${round(direct.p99_ms)} ms.`,
    "",
    "| | ours | HAProxy | ratio | budget |",
    "| --- | ---: | ---: | ---: | --- |",
    ...table.map(
      (row) =>
        `| ${[row.name, round(row.ours), round(row.haproxy), round(row.ours / row.haproxy), verdict(row)].join(" | ")} |`,
    ),
  ].join("\n");
  console.log(`\n${markdown}`);

  const file = join(folder, "RESULTS.md");
  if (!existsSync(file)) return;
  const page = readFileSync(file, "utf8");
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file} has lost the marks of its table`);
  writeFileSync(file, `${page.slice(0, begin + BEGIN.length)}\n\n${markdown}\n\n${page.slice(end)}`);
}

function verdict({ ours, haproxy, budget }: Row): string {
  if (budget === undefined) return "";
  const ratio = ours / haproxy;
  const [text, met] =
    "atMost" in budget
      ? [`≤ ${budget.atMost}`, ratio <= budget.atMost]
      : [`≥ ${budget.atLeast}`, ratio >= budget.atLeast];
  return met ? text : `${text}, missed`;
}

/** Three significant digits, or whole numbers from 100 on. */
function round(value: number): number {
  return value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

function rounded(figures: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(figures).map(([key, value]) => [key, round(value)]));
}
