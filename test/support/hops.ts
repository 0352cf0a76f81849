import { admittance } from "../../src/agent/admittance.ts";
import { InboundConnectionRecorder, OutboundConnectionRecorder } from "../../src/agent/connection-recorder.ts";
import { MetricsStore } from "../../src/agent/metrics/index.ts";
import { ExchangeRecorder } from "../../src/agent/recorder.ts";
import { Authority } from "../../src/lab/pki.ts";
import type { SocketAddress } from "../../src/proxy/core/address.ts";
import type { Clock, Rng } from "../../src/proxy/core/clock.ts";
import type { Endpoint } from "../../src/proxy/core/endpoint.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import type { DiscoveryRequest } from "../../src/proxy/core/messages.ts";
import { DiscoveryClient, type DiscoveryMessage } from "../../src/proxy/discovery/index.ts";
import { InboundAcceptor } from "../../src/proxy/inbound/index.ts";
import { OutboundAcceptor } from "../../src/proxy/outbound/index.ts";
import {
  defaultInboundPolicy,
  forwardPolicy,
  type InboundPolicy,
  type OutboundPolicy,
  RateBuckets,
} from "../../src/proxy/policy/index.ts";
import type { AttemptRecorder, Exchange } from "../../src/proxy/stack/index.ts";
import {
  type Admittance,
  type ConnectionBounds,
  ConnectionLimits,
  Connections,
  connectionTable,
  createRuntime,
  Listener,
  MeshTls,
  type Runtime,
} from "../../src/proxy/transport/index.ts";
import { TestLog } from "./log.ts";

export const CLIENT_NAME = "client.ns.serviceaccount.identity.linkerd.cluster.local";
export const SERVER_NAME = "server.ns.serviceaccount.identity.linkerd.cluster.local";
export const SERVER_URI = "spiffe://cluster.local/ns/ns/sa/server";

/** An identity for tests, from one authority. */
export async function identityFrom(authority: Authority, dns: string, uri?: string): Promise<WorkloadIdentity> {
  const leaf = await authority.issue({ dns: [dns], ...(uri === undefined ? {} : { uri: [uri] }) });
  return {
    generation: 1,
    name: dns,
    uri,
    serverName: dns,
    keyPem: leaf.keyPem,
    certificatePem: leaf.certificatePem,
    trustAnchorsPem: [authority.certificatePem],
    notBeforeMs: 0,
    notAfterMs: Date.now() + 3_600_000,
  };
}

/** Runs with the real one, and can be moved ahead: ten seconds of a limit need not be waited for. */
export class SkippingClock implements Clock {
  #skippedMs = 0;

  now(): number {
    return performance.now() + this.#skippedMs;
  }

  wallMs(): number {
    return Date.now() + this.#skippedMs;
  }

  skip(ms: number): void {
    this.#skippedMs += ms;
  }
}

/** One proxy, both sides as wanted, with discovery answered by the test. */
export class HopProxy {
  readonly clock = new SkippingClock();
  readonly log = new TestLog();
  readonly runtime: Runtime = createRuntime(this.log, this.clock);
  readonly mesh = new MeshTls(this.log);
  readonly connections = new Connections();
  readonly metrics = new MetricsStore(() => performance.now());
  readonly ended: Exchange[] = [];
  readonly attempted: Exchange[] = [];
  /** Called instead of keeping what has ended: for tests with more requests than memory. */
  onEnded: ((x: Exchange) => void) | undefined;
  readonly discovery: DiscoveryClient;
  readonly #answer: (request: DiscoveryRequest) => DiscoveryMessage | undefined;
  readonly #listeners: Listener[] = [];
  readonly #expiry: NodeJS.Timeout;
  readonly #detectTimeoutMs: number;
  readonly #rng: Rng;
  readonly #maxInFlight: number | undefined;
  readonly #localIps: readonly string[];
  readonly #refusesLoopback: boolean;
  readonly #limits: ConnectionLimits | undefined;
  outbound: OutboundAcceptor | undefined;
  inbound: InboundAcceptor | undefined;
  port = 0;

  constructor(
    identity: WorkloadIdentity,
    answer: (request: DiscoveryRequest) => DiscoveryMessage | undefined,
    {
      bounds,
      detectTimeoutMs,
      localIps,
      maxInFlight,
      refusesLoopback,
      rng,
    }: Pick<HopsOptions, "bounds" | "detectTimeoutMs" | "localIps" | "maxInFlight" | "refusesLoopback" | "rng">,
  ) {
    this.#localIps = localIps ?? [];
    this.#refusesLoopback = refusesLoopback === true;
    this.#rng = rng ?? Math.random;
    this.#answer = answer;
    this.#limits = bounds && new ConnectionLimits(connectionTable(1), 0, bounds, 1);
    this.#detectTimeoutMs = detectTimeoutMs ?? 500;
    this.#maxInFlight = maxInFlight;
    this.mesh.update(identity);
    this.discovery = new DiscoveryClient(
      {
        postMessage: (request) =>
          queueMicrotask(() => {
            const message = this.#answer(request);
            if (message !== undefined) this.discovery.receive(message);
          }),
      },
      {
        clock: this.runtime.clock,
        defaultInbound: () => defaultInboundPolicy("deny", { detectTimeoutMs: 500, clusterNetworks: [] }),
      },
    );
    this.#expiry = setInterval(() => this.discovery.expire(this.runtime.clock.now()), 1_000);
  }

  /** Says something new about a target, as the hub would. */
  tell(message: DiscoveryMessage): void {
    this.discovery.receive(message);
  }

  /** @param port - The proxy's own port; connections to another local port count as intercepted ones. */
  async listenInbound(direct: boolean): Promise<number> {
    const listener = new Listener((accepted) => this.inbound?.accept(accepted), this.log, this.#admit(true));
    this.#listeners.push(listener);
    const { port } = await listener.listen({ ip: "127.0.0.1", port: 0 });
    if (direct) this.port = port;
    this.inbound ??= new InboundAcceptor({
      config: {
        port,
        detectTimeoutMs: this.#detectTimeoutMs,
        connectTimeoutMs: 500,
        failfastMs: 400,
        ...(this.#maxInFlight === undefined ? {} : { maxInFlight: this.#maxInFlight }),
      },
      runtime: this.runtime,
      discovery: this.discovery,
      mesh: this.mesh,
      connections: this.connections,
      recorder: this.#recorder("inbound"),
      meters: new InboundConnectionRecorder(this.metrics.registry),
      rng: Math.random,
      buckets: new RateBuckets(),
    });
    return port;
  }

  /**
   * Listens for connections that count as intercepted on their way to `originalDst`, as under TPROXY.
   * @param client - Where they shall come from, for addresses that loopback has not.
   */
  async listenIntercepted(originalDst: SocketAddress, client?: SocketAddress): Promise<number> {
    const listener = new Listener(
      (accepted) => this.inbound?.accept({ ...accepted, originalDst, client: client ?? accepted.client }),
      this.log,
      this.#admit(true),
    );
    this.#listeners.push(listener);
    return (await listener.listen({ ip: "127.0.0.1", port: 0 })).port;
  }

  async listenOutbound(): Promise<number> {
    this.outbound = new OutboundAcceptor(
      {
        config: {
          detectTimeoutMs: this.#detectTimeoutMs,
          connectTimeoutMs: 1_000,
          failfastMs: 700,
          localIps: new Set(this.#localIps),
          dialsLoopback: !this.#refusesLoopback,
        },
        runtime: this.runtime,
        discovery: this.discovery,
        mesh: this.mesh,
        connections: this.connections,
        recorder: this.#recorder("outbound"),
        meters: new OutboundConnectionRecorder(this.metrics.registry),
        rng: this.#rng,
      },
      4140,
    );
    const listener = new Listener((accepted) => this.outbound?.accept(accepted), this.log, this.#admit(false));
    this.#listeners.push(listener);
    const { port } = await listener.listen({ ip: "127.0.0.1", port: 0 });
    return port;
  }

  /** Counts as in production, and keeps what it was shown. */
  #recorder(direction: "inbound" | "outbound"): AttemptRecorder {
    const { runtime } = this;
    const metrics = this.metrics.registry;
    const counting = new ExchangeRecorder({ direction, runtime, metrics, identity: () => undefined, tapped: () => {} });
    return {
      permitted: (x) => counting.permitted(x),
      routed: (x) => counting.routed(x),
      sent: (x) => counting.sent(x),
      dispatched: (x) => counting.dispatched(x),
      began: (x) => counting.began(x),
      answering: (x) => counting.answering(x),
      ended: (x) => {
        if (this.onEnded === undefined) this.ended.push(x);
        else this.onEnded(x);
        counting.ended(x);
      },
      attempted: (x) => {
        if (this.onEnded === undefined) this.attempted.push(x);
        counting.attempted(x);
      },
      retries: (x) => counting.retries(x),
    };
  }

  #admit(inbound: boolean): Admittance | undefined {
    const meters = inbound
      ? new InboundConnectionRecorder(this.metrics.registry)
      : new OutboundConnectionRecorder(this.metrics.registry);
    return this.#limits && admittance(this.#limits, inbound, this.runtime, meters);
  }

  close(): void {
    clearInterval(this.#expiry);
    for (const listener of this.#listeners) {
      listener.stop();
      listener.destroyAll();
    }
    this.connections.destroyAll();
    this.inbound?.close();
    this.outbound?.close();
    this.runtime.wheel.stop();
  }
}

export interface HopsOptions {
  readonly appPort: number;
  /** What the inbound hop's application port accepts; default: any mesh identity, protocol detected. */
  readonly inboundPolicy?: InboundPolicy;
  /** How many connections each hop takes; default: any number. */
  readonly bounds?: ConnectionBounds;
  /** How long first bytes may take; default 500 ms. */
  readonly detectTimeoutMs?: number;
  /** Addresses of the outbound hop's own workload; default: none. */
  readonly localIps?: readonly string[];
  /** As the agent does; tests have nothing but loopback. */
  readonly refusesLoopback?: boolean;
  /** Requests that may wait for their response's head; default as in production. */
  readonly maxInFlight?: number;
  /** Chance of the outbound side; default: real. */
  readonly rng?: Rng;
  readonly opaque?: boolean;
  readonly hint?: "h2" | "opaque" | undefined;
  /** Changes the policy that the outbound hop gets. */
  readonly policy?: (policy: OutboundPolicy) => OutboundPolicy;
  /** Where the outbound hop believes the endpoint's proxy to listen; default: where the inbound hop does. */
  readonly meshPort?: number;
  /** How the server's identity is announced; default as for an ExternalWorkload, by URI. */
  readonly identity?: Endpoint["identity"];
}

/** Program → outbound hop → mTLS with transport header → inbound hop → application, all real sockets on loopback. */
export class Hops {
  readonly authority: Authority;
  readonly client: HopProxy;
  readonly server: HopProxy;
  /** Where programs connect. */
  readonly port: number;
  /** The inbound hop's 4143. */
  readonly directPort: number;

  private constructor(authority: Authority, client: HopProxy, server: HopProxy, port: number, directPort: number) {
    this.authority = authority;
    this.client = client;
    this.server = server;
    this.port = port;
    this.directPort = directPort;
  }

  static async start(options: HopsOptions): Promise<Hops> {
    const authority = await Authority.root("root.linkerd.cluster.local");
    const answerServer = (request: DiscoveryRequest): DiscoveryMessage | undefined =>
      request.type === "discovery.watch" && request.target.kind === "inbound"
        ? {
            type: "discovery.inbound",
            key: `inbound ${request.target.port}`,
            value:
              (request.target.port === options.appPort ? options.inboundPolicy : undefined) ??
              defaultInboundPolicy("all-authenticated", {
                detectTimeoutMs: 500,
                clusterNetworks: [],
                opaque: options.opaque === true,
              }),
          }
        : undefined;
    const server = new HopProxy(await identityFrom(authority, SERVER_NAME, SERVER_URI), answerServer, options);
    const directPort = await server.listenInbound(true);
    const answerClient = (request: DiscoveryRequest): DiscoveryMessage | undefined =>
      request.type === "discovery.watch" && request.target.kind === "outbound"
        ? {
            type: "discovery.outbound",
            key: `outbound ${request.target.ip}:${request.target.port}`,
            value: {
              policy: (options.policy ?? ((same) => same))(policyTo(options, options.meshPort ?? directPort)),
              profile: undefined,
            },
          }
        : undefined;
    const client = new HopProxy(await identityFrom(authority, CLIENT_NAME), answerClient, options);
    const port = await client.listenOutbound();
    return new Hops(authority, client, server, port, directPort);
  }

  /** Time passes for both. */
  skip(ms: number): void {
    this.client.clock.skip(ms);
    this.server.clock.skip(ms);
  }

  close(): void {
    this.client.close();
    this.server.close();
  }
}

function policyTo(options: HopsOptions, directPort: number): OutboundPolicy {
  const policy = forwardPolicy("endpoint", {
    key: `127.0.0.1:${options.appPort}`,
    address: { ip: "127.0.0.1", port: options.appPort },
    identity: "identity" in options ? options.identity : { kind: "uri", id: SERVER_URI, serverName: SERVER_NAME },
    expectsIdentity: true,
    hint: "hint" in options ? options.hint : options.opaque === true ? "opaque" : "h2",
    inboundPort: directPort,
    authorityOverride: undefined,
    weight: 10_000,
    zone: undefined,
    zoneLocality: "unknown",
    labels: {},
    http2: undefined,
  });
  return options.opaque === true ? { ...policy, kind: "opaque" } : policy;
}
