/**
 * Sends HTTP/1.1 requests at a fixed rate and prints their latencies as JSON.
 *
 * A request's time starts when it was due, not when a connection was free for it: a server that stalls is charged for
 * everything that would have been sent meanwhile. (What measures only from the sending leaves exactly the bad moments
 * out: "coordinated omission".)
 */
import { connect, type Socket } from "node:net";

interface Options {
  readonly port: number;
  readonly requestsPerSecond: number;
  readonly seconds: number;
  /** Time at the start that is not counted. */
  readonly warmUpSeconds: number;
  readonly connections: number;
}

export interface RateResult {
  readonly requests: number;
  readonly failures: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

const TICK_MS = 1;
const options = JSON.parse(process.argv[2] ?? "{}") as Options;
const REQUEST = Buffer.from("GET / HTTP/1.1\r\nhost: bench.example\r\n\r\n");
const HEAD_END = Buffer.from("\r\n\r\n");

const latencies: number[] = [];
const idle: Connection[] = [];
/** When the requests that wait for a connection were due. */
const waiting: number[] = [];
let failures = 0;
let countFrom = 0;

/** One keep-alive connection with at most one request under way. */
class Connection {
  readonly #socket: Socket;
  #dueAt: number | undefined;
  #received = 0;
  #expected: number | undefined;

  constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.#socket.on("connect", () => this.#next());
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", () => {
      failures++;
    });
    this.#socket.on("close", () => {
      if (this.#dueAt !== undefined) failures++;
    });
  }

  send(dueAt: number): void {
    this.#dueAt = dueAt;
    this.#received = 0;
    this.#expected = undefined;
    this.#socket.write(REQUEST);
  }

  close(): void {
    this.#dueAt = undefined;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#expected === undefined) {
      // The page is small: its head is in one piece.
      const end = chunk.indexOf(HEAD_END);
      const head = chunk.toString("latin1", 0, end);
      if (!head.startsWith("HTTP/1.1 200")) failures++;
      this.#expected = end + HEAD_END.length + Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    }
    this.#received += chunk.length;
    if (this.#received < this.#expected || this.#dueAt === undefined) return;
    if (this.#dueAt >= countFrom) latencies.push(performance.now() - this.#dueAt);
    this.#dueAt = undefined;
    this.#next();
  }

  #next(): void {
    const due = waiting.shift();
    if (due === undefined) idle.push(this);
    else this.send(due);
  }
}

const connections = Array.from({ length: options.connections }, () => new Connection(options.port));
await new Promise((resolve) => setTimeout(resolve, 200));

const startedAt = performance.now();
countFrom = startedAt + options.warmUpSeconds * 1000;
const endAt = countFrom + options.seconds * 1000;
let sent = 0;
const timer = setInterval(() => {
  const now = performance.now();
  if (now >= endAt) {
    clearInterval(timer);
    // What is still under way is waited for, up to a second, and then counted as lost.
    setTimeout(finish, idle.length === connections.length ? 0 : 1000);
    return;
  }
  // Requests come due in groups on the grid of the timer; a late timer does not move the grid.
  const dueTick = Math.floor((now - startedAt) / TICK_MS) * TICK_MS;
  const due = Math.floor((dueTick / 1000) * options.requestsPerSecond);
  for (; sent < due; sent++) {
    const dueAt = startedAt + Math.ceil((sent * 1000) / options.requestsPerSecond / TICK_MS) * TICK_MS;
    const connection = idle.pop();
    if (connection === undefined) waiting.push(dueAt);
    else connection.send(dueAt);
  }
}, TICK_MS);

function finish(): void {
  failures += waiting.length + connections.length - idle.length;
  for (const connection of connections) connection.close();
  latencies.sort((a, b) => a - b);
  const at = (quantile: number): number => latencies[Math.ceil(quantile * latencies.length) - 1] ?? Number.NaN;
  const result: RateResult = {
    requests: latencies.length,
    failures,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    p999Ms: at(0.999),
    maxMs: at(1),
  };
  console.log(JSON.stringify(result));
}
