import { createServer } from "node:net";
import type { Worker } from "node:worker_threads";
import { MetricsStore } from "../../src/agent/metrics/index.ts";
import { close, dup } from "../../src/agent/posix.ts";
import type { WorkerStart } from "../../src/agent/worker.ts";
import { WorkerPool } from "../../src/agent/worker-pool.ts";
import { spawnWorker } from "../../src/agent/worker-thread.ts";
import { Authority } from "../../src/lab/pki.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import { type DiscoveryRequest, discoveryKey, type TapEvent } from "../../src/proxy/core/messages.ts";
import type { DiscoveryMessage, Hub } from "../../src/proxy/discovery/index.ts";
import { defaultInboundPolicy, forwardPolicy, RATE_BUCKET_BYTES } from "../../src/proxy/policy/index.ts";
import { CLIENT_NAME, identityFrom, SERVER_NAME, SERVER_URI } from "./hops.ts";
import { TestLog } from "./log.ts";
import { until } from "./until.ts";

export interface PoolsOptions {
  readonly appPort: number;
  readonly clients: number;
  readonly servers: number;
  /** How the workers of the outbound pool are started. */
  readonly spawn?: (start: WorkerStart) => Worker;
}

/** One agent's workers, with discovery answered by the test. */
export class PoolUnderTest {
  readonly pool: WorkerPool;
  readonly metrics = new MetricsStore(() => performance.now());
  readonly log = new TestLog();
  /** The living workers by index, and which of them finished which exchange. */
  readonly workers = new Map<number, Worker>();
  readonly taps: { readonly worker: number; readonly event: TapEvent }[] = [];
  readonly fd: number;

  constructor(
    fd: number,
    role: "inbound" | "outbound",
    count: number,
    ownPort: number,
    identity: WorkloadIdentity,
    answer: ((request: DiscoveryRequest) => DiscoveryMessage | undefined) | Pick<Hub, "attachWorker">,
    spawn: (start: WorkerStart) => Worker = (start) => spawnWorker(start),
  ) {
    this.fd = fd;
    this.pool = new WorkerPool({
      count,
      inboundFds: role === "inbound" ? [fd] : [],
      outboundFds: role === "outbound" ? [fd] : [],
      start: () => ({
        inbound: { port: ownPort, detectTimeoutMs: 500, connectTimeoutMs: 1_000, failfastMs: 1_000 },
        outbound: {
          port: 4140,
          detectTimeoutMs: 500,
          connectTimeoutMs: 2_000,
          failfastMs: 3_000,
          localIps: [],
          dialsLoopback: true,
          probeTargets: [],
        },
        defaultPolicy: "all-authenticated",
        clusterNetworks: [],
        opaquePorts: [],
        rateBuckets: new SharedArrayBuffer(RATE_BUCKET_BYTES),
        userTimeoutMs: 30_000,
        debug: false,
      }),
      identity: () => identity,
      hub: typeof answer === "function" ? answering(answer) : answer,
      metrics: this.metrics,
      log: this.log,
      now: () => performance.now(),
      onTap() {},
      onReadiness() {},
      spawn: (start) => {
        const worker = spawn(start);
        this.workers.set(start.index, worker);
        worker.on("message", (message: { type: string; event: TapEvent }) => {
          if (message.type === "worker.tap") this.taps.push({ worker: start.index, event: message.event });
        });
        return worker;
      },
    });
  }

  async ready(): Promise<void> {
    await until(() => this.pool.ready === this.pool.count, "all workers are ready");
  }

  async stop(): Promise<void> {
    await this.pool.terminate();
    close(this.fd);
  }
}

function answering(answer: (request: DiscoveryRequest) => DiscoveryMessage | undefined): Pick<Hub, "attachWorker"> {
  return {
    attachWorker: (send) => ({
      receive(request) {
        const message = answer(request);
        if (message !== undefined) queueMicrotask(() => send(message));
      },
      detach() {},
    }),
  };
}

/** Program → workers of one agent → mTLS with transport header → workers of another → application. */
export class Pools {
  readonly client: PoolUnderTest;
  readonly server: PoolUnderTest;
  /** Where programs connect. */
  readonly port: number;

  private constructor(client: PoolUnderTest, server: PoolUnderTest, port: number) {
    this.client = client;
    this.server = server;
    this.port = port;
  }

  static async start(options: PoolsOptions): Promise<Pools> {
    const authority = await Authority.root("root.linkerd.cluster.local");
    const [inbound, outbound] = [await listeningDescriptor(), await listeningDescriptor()];
    const server = new PoolUnderTest(
      inbound.fd,
      "inbound",
      options.servers,
      inbound.port,
      await identityFrom(authority, SERVER_NAME, SERVER_URI),
      ({ type, target }) =>
        type === "discovery.watch" && target.kind === "inbound"
          ? {
              type: "discovery.inbound",
              key: discoveryKey(target),
              value: defaultInboundPolicy("all-authenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
            }
          : undefined,
    );
    const policy = forwardPolicy("endpoint", {
      key: `127.0.0.1:${options.appPort}`,
      address: { ip: "127.0.0.1", port: options.appPort },
      identity: { kind: "uri", id: SERVER_URI, serverName: SERVER_NAME },
      expectsIdentity: true,
      hint: "h2",
      inboundPort: inbound.port,
      authorityOverride: undefined,
      weight: 10_000,
      zone: undefined,
      zoneLocality: "unknown",
      labels: {},
      http2: undefined,
    });
    const client = new PoolUnderTest(
      outbound.fd,
      "outbound",
      options.clients,
      4143,
      await identityFrom(authority, CLIENT_NAME),
      ({ type, target }) =>
        type === "discovery.watch" && target.kind === "outbound"
          ? { type: "discovery.outbound", key: discoveryKey(target), value: { policy, profile: undefined } }
          : undefined,
      options.spawn,
    );
    await Promise.all([client.ready(), server.ready()]);
    return new Pools(client, server, outbound.port);
  }

  async stop(): Promise<void> {
    await this.client.stop();
    await this.server.stop();
  }
}

/** As under systemd: a listening socket of the process that nobody accepts on but the holders of duplicates. */
export async function listeningDescriptor(host = "127.0.0.1"): Promise<{ readonly fd: number; readonly port: number }> {
  const holder = createServer();
  holder.listen({ host, port: 0, backlog: 4096 });
  await new Promise((resolve) => holder.once("listening", resolve));
  const { port } = holder.address() as { port: number };
  const fd = dup((holder as unknown as { _handle: { fd: number } })._handle.fd);
  await new Promise((resolve) => holder.close(resolve));
  return { fd, port };
}
