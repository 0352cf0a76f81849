import type { Golden } from "./golden.ts";
import type { Call, Transition } from "./report.ts";
import { columns, type Style } from "./style.ts";

export function renderTransitions(transitions: readonly Transition[], style: Style): string {
  const head = ["AFTER", "EXTERNALWORKLOAD", "READY", "REASON", "ADDRESS", "IDENTITY"];
  const rows = transitions.map((transition) => [
    `${transition.afterSeconds.toFixed(1)} s`,
    transition.name,
    transition.ready === "True" ? style.good("True") : transition.ready,
    transition.reason,
    transition.address,
    transition.identity,
  ]);
  return columns([head.map((cell) => style.dim(cell)), ...rows], new Set([0]));
}

/** One call: what was typed, what came back, and beneath it what the proxy saw. */
export function renderCall(call: Call, style: Style): string {
  const typed = `  ${style.name(`${call.host} $`)} ${style.bold(call.command)}\n    ${call.answer}\n`;
  const seen = call.request;
  if (seen === undefined) return `${typed}\n`;
  const failed = seen.status >= 500 || (seen.grpcStatus ?? 0) !== 0;
  const status = seen.grpcStatus === undefined ? String(seen.status) : `${seen.status}, grpc-status ${seen.grpcStatus}`;
  const facts: [string, string][] = [
    ["from", seen.sourceIdentity ?? `${seen.source} (no identity)`],
    ["to", seen.destinationIdentity ?? `${seen.destination} (no identity)`],
    ["TLS", seen.tls ? style.good("yes, mutual") : style.bad("no")],
    ["request", `${seen.method} ${seen.authority}${seen.path}`],
    ["route", seen.route === "" ? "none" : seen.route],
    ["endpoint", seen.destination],
    ["status", failed ? style.bad(status) : style.good(status)],
    ["latency", `${seen.latencyMs.toFixed(1)} ms`],
  ];
  const lines = columns(facts.map(([fact, value]) => [style.dim(fact), value]));
  return `${typed}${lines.replace(/^ {2}/gm, "      ")}\n`;
}

export function renderGolden(golden: readonly Golden[], style: Style): string {
  const head = ["FROM", "TO", "REQUESTS", "RPS", "SUCCESS", "P50", "P95", "P99", "MTLS"];
  const rows = golden.map((way) => [
    way.from,
    way.to,
    String(way.requests),
    way.perSecond.toFixed(1),
    shade(way.successRate, style),
    milliseconds(way.p50Ms),
    milliseconds(way.p95Ms),
    milliseconds(way.p99Ms),
    percent(way.tlsShare),
  ]);
  return columns([head.map((cell) => style.dim(cell)), ...rows], new Set([2, 3, 4, 5, 6, 7, 8]));
}

function shade(rate: number | undefined, style: Style): string {
  const text = percent(rate);
  return rate === undefined || rate >= 0.9 ? style.good(text) : style.bad(text);
}

function percent(share: number | undefined): string {
  return share === undefined ? "-" : `${(share * 100).toFixed(1)} %`;
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? "-" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
