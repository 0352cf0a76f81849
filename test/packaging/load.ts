/**
 * Traffic of a program that knows of no mesh, from inside a network namespace: `load.ts OPTIONS`, a JSON object of
 * {@link LoadOptions}. Says `up` once everything is under way, runs until its standard input ends (or `seconds` are over),
 * and prints one JSON object of {@link LoadReport}.
 */
import { lookup } from "node:dns/promises";
import { Agent, get } from "node:http";
import { connect } from "node:net";
import { Client, credentials } from "@grpc/grpc-js";
import { ECHO } from "../../src/lab/apps/grpc-echo.ts";

export interface LoadOptions {
  /** Of the service; HTTP on port 80. */
  readonly host: string;
  /** Requests per second, each on a connection of its own. */
  readonly fresh: number;
  /** Requests per second over kept connections. */
  readonly kept: number;
  /** Unary gRPC calls per second over one connection, which is opened again after a GOAWAY. */
  readonly calls: number;
  /** Bidirectional gRPC streams that say something every second. */
  readonly streams: number;
  readonly grpcPort: number;
  /** Connections that no proxy understands, saying something every second. */
  readonly opaque: number;
  readonly tcpPort: number;
  /** At most. */
  readonly seconds: number;
}

export interface LoadReport {
  readonly sent: number;
  readonly failed: number;
  /** Of the slowest request. */
  readonly slowestMs: number;
  readonly failures: Readonly<Record<string, number>>;
  /** Unix milliseconds of the first and the last failure: to be held against a journal. */
  readonly failedAtMs: readonly [first: number, last: number] | undefined;
  /** Streams that ended as they should, and those that were cut, by gRPC status. */
  readonly streams: { readonly whole: number; readonly cut: Readonly<Record<string, number>> };
  readonly opaque: { readonly whole: number; readonly cut: number };
}

const options = JSON.parse(process.argv[2] ?? "{}") as LoadOptions;
const { address } = await lookup(options.host);
const kept = new Agent({ keepAlive: true, maxSockets: 20 });
const failures: Record<string, number> = {};
let sent = 0;
let under = 0;
let slowestMs = 0;
let failedAtMs: [first: number, last: number] | undefined;
let stopping = false;

function fail(why: string): void {
  failures[why] = (failures[why] ?? 0) + 1;
  failedAtMs = [failedAtMs?.[0] ?? Date.now(), Date.now()];
}

function answered(began: number, status: number | undefined): void {
  under--;
  slowestMs = Math.max(slowestMs, performance.now() - began);
  if (status !== 200) fail(`status ${status}`);
}

function broken(kind: string, error: { readonly code?: string | number; readonly message: string }): void {
  under--;
  fail(`${kind}: ${error.code ?? error.message}`);
}

function request(agent: Agent | false): void {
  sent++;
  under++;
  const began = performance.now();
  const kind = agent === false ? "fresh" : "kept";
  const question = get(
    { host: address, port: 80, path: "/load", agent, headers: { host: options.host } },
    (response) => {
      response.on("error", (error) => broken(kind, error));
      response.on("end", () => answered(began, response.statusCode));
      response.resume();
    },
  );
  question.on("error", (error) => broken(kind, error));
}

const client = new Client(`${options.host}:${options.grpcPort}`, credentials.createInsecure());

function call(): void {
  sent++;
  under++;
  const began = performance.now();
  const { path, requestSerialize, responseDeserialize } = ECHO.Say;
  client.makeUnaryRequest(path, requestSerialize, responseDeserialize, Buffer.from("hello"), (error) => {
    if (error === null) answered(began, 200);
    else broken("call", error);
  });
}

const streams = { whole: 0, cut: {} as Record<string, number> };
const opaque = { whole: 0, cut: 0 };
const enders: (() => void)[] = [];

function chat(): Promise<void> {
  return new Promise((resolve) => {
    const { path, requestSerialize, responseDeserialize } = ECHO.Chat;
    const stream = client.makeBidiStreamRequest<Buffer, Buffer>(path, requestSerialize, responseDeserialize);
    const timer = setInterval(() => stream.write(Buffer.from("still here")), 1_000);
    const end = () => {
      clearInterval(timer);
      stream.end();
    };
    enders.push(end);
    stream.on("error", () => {});
    stream.once("data", () => resolve());
    stream.on("data", () => {});
    stream.on("status", ({ code }) => {
      clearInterval(timer);
      resolve();
      if (code === 0) streams.whole++;
      else streams.cut[code] = (streams.cut[code] ?? 0) + 1;
    });
    stream.write(Buffer.from("hello"));
  });
}

function relay(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(options.tcpPort, address);
    const timer = setInterval(() => socket.write("still here\n"), 1_000);
    let ending = false;
    enders.push(() => {
      clearInterval(timer);
      ending = true;
      socket.end();
    });
    socket.once("data", () => resolve());
    socket.on("data", () => {});
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(timer);
      resolve();
      if (ending) opaque.whole++;
      else opaque.cut++;
    });
    socket.write("hello\n");
  });
}

await Promise.all([
  ...Array.from({ length: options.streams }, () => chat()),
  ...Array.from({ length: options.opaque }, () => relay()),
]);

// Ticks of 10 ms; what a tick cannot send in whole requests is owed to the next.
const owed = { fresh: 0, kept: 0, calls: 0 };
const ticker = setInterval(() => {
  for (const kind of ["fresh", "kept", "calls"] as const) {
    for (owed[kind] += options[kind] / 100; owed[kind] >= 1; owed[kind]--) {
      if (kind === "calls") call();
      else request(kind === "kept" ? kept : false);
    }
  }
}, 10);
process.stdout.write("up\n");

async function finish(): Promise<void> {
  if (stopping) return;
  stopping = true;
  clearInterval(ticker);
  for (const end of enders) end();
  const until = Date.now() + 15_000;
  const settled = () =>
    under === 0 &&
    streams.whole + Object.values(streams.cut).reduce((sum, n) => sum + n, 0) === options.streams &&
    opaque.whole + opaque.cut === options.opaque;
  while (!settled() && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
  if (under > 0) failures["no answer"] = under;
  const failed = Object.values(failures).reduce((sum, n) => sum + n, 0);
  const report: LoadReport = { sent, failed, slowestMs: Math.round(slowestMs), failures, failedAtMs, streams, opaque };
  process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
}

process.stdin.on("end", () => void finish());
process.stdin.resume();
setTimeout(() => void finish(), options.seconds * 1_000).unref();
