/** Endpoints that die while a program sends 1,000 requests a second, through the running proxy. */
import { Agent } from "node:http";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { Endpoint } from "../../../src/proxy/core/endpoint.ts";
import { onlyBackend, type RetryPolicy } from "../../../src/proxy/policy/index.ts";
import { ask, Balanced, backendOf, endpointOf, routeTo } from "../../support/balanced.ts";

const REQUESTS = 3_000;
const PER_MS = 1;
/** Requests of the program that are under way at once, at most. */
const WORKERS = 16;

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

/** An application that takes HTTP/2, as the proxies of meshed pods do, and can be killed. */
class Pod {
  readonly #server = createServer();
  readonly #sockets = new Set<Socket>();
  calls = 0;

  constructor(name: string) {
    this.#server.on("connection", (socket: Socket) => void this.#sockets.add(socket));
    this.#server.on("session", (session) => session.on("error", () => {}));
    this.#server.on("stream", (stream: ServerHttp2Stream) => {
      this.calls++;
      stream.on("error", () => {});
      stream.respond({ ":status": 200 });
      stream.end(name);
    });
  }

  async listen(): Promise<Endpoint> {
    return { ...(await endpointOf(this.#server)), hint: "h2" };
  }

  /** As when its node is gone: connections break, new ones are refused. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}

/** Three pods, of which one dies after a third of the requests. Returns the answers, by what they were. */
async function kill(retry: RetryPolicy | undefined): Promise<Record<string, number>> {
  const pods = ["a", "b", "c"].map((name) => new Pod(name));
  open.push(...pods);
  const endpoints = await Promise.all(pods.map((pod) => pod.listen()));
  const policy = routeTo(onlyBackend(backendOf("a:80")), retry === undefined ? {} : { retry });
  const balanced = await Balanced.start(policy, { "a:80": endpoints });
  open.push(balanced);
  // All connections are there, and none is opened because of a request.
  await ask(balanced.port);
  await expect.poll(() => balanced.proxy.connections.size).toBeGreaterThan(0);

  const agent = new Agent({ keepAlive: true, maxSockets: WORKERS });
  const seen: Record<string, number> = {};
  const began = performance.now();
  let next = 0;
  const work = async () => {
    for (;;) {
      const n = next++;
      if (n >= REQUESTS) return;
      const early = began + n / PER_MS - performance.now();
      if (early > 1) await new Promise((resolve) => setTimeout(resolve, early));
      if (n === REQUESTS / 3) pods[0]?.close();
      const { status, body } = await ask(balanced.port, { agent });
      const key = status === 200 ? body : "failed";
      seen[key] = (seen[key] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, work));
  agent.destroy();
  expect(pods[0]?.calls).toBeGreaterThan(0);
  expect(Object.values(seen).reduce((sum, n) => sum + n, 0)).toBe(REQUESTS);
  return seen;
}

describe("an endpoint that dies at 1,000 requests per second", () => {
  test("costs no request with retries on", async () => {
    const seen = await kill({
      maxRetries: 3,
      maxRequestBytes: 65_536,
      statusRanges: [{ start: 500, end: 599 }],
      grpcCodes: [],
      timeoutMs: undefined,
      backoff: { minMs: 5, maxMs: 50, jitter: 1 },
    });
    expect(seen["failed"]).toBeUndefined();
  });

  test("costs those in flight on it without", async () => {
    const seen = await kill(undefined);
    // Each of the program's workers has one request in flight. What fails, fails as the connection breaks; a second
    // failure of the same worker would be a request that was sent to an endpoint known to be gone.
    expect(seen["failed"] ?? 0).toBeLessThanOrEqual(WORKERS);
  });
});
