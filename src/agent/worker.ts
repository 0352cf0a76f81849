import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { parseCidr } from "../proxy/core/address.ts";
import type { WorkloadIdentity } from "../proxy/core/identity.ts";
import type { LogFields, Logger } from "../proxy/core/log.ts";
import type { DiscoveryRequest, MetricsEviction, WorkerOrder, WorkerReport } from "../proxy/core/messages.ts";
import { DiscoveryClient, type DiscoveryMessage } from "../proxy/discovery/index.ts";
import { InboundAcceptor, type InboundConfig } from "../proxy/inbound/index.ts";
import { OutboundAcceptor, type OutboundConfig } from "../proxy/outbound/index.ts";
import { type DefaultPolicyName, defaultInboundPolicy, RateBuckets } from "../proxy/policy/index.ts";
import {
  type Admittance,
  ConnectionLimits,
  Connections,
  createRuntime,
  Listener,
  MeshTls,
  systemClock,
} from "../proxy/transport/index.ts";
import { admittance, type ConnectionStart } from "./admittance.ts";
import { InboundConnectionRecorder, OutboundConnectionRecorder } from "./connection-recorder.ts";
import { SlotRegistry } from "./metrics/index.ts";
import { setUserTimeout } from "./posix.ts";
import { ExchangeRecorder } from "./recorder.ts";

/** Everything a worker is told when it starts. Structured-clone safe. */
export interface WorkerStart {
  readonly index: number;
  /** How many workers share the host. */
  readonly workers: number;
  readonly inbound: InboundConfig;
  readonly outbound: Omit<OutboundConfig, "localIps" | "probeTargets"> & {
    readonly port: number;
    readonly localIps: readonly string[];
    readonly probeTargets: readonly string[];
  };
  readonly defaultPolicy: DefaultPolicyName;
  readonly clusterNetworks: readonly string[];
  readonly opaquePorts: readonly number[];
  /** Of {@link RATE_BUCKET_BYTES}, the same for all workers. */
  readonly rateBuckets: SharedArrayBuffer;
  /** How many connections may be open, and where that is counted; undefined: no bound but the descriptors. */
  readonly connections?: ConnectionStart;
  /** How long nothing may move in a connection that is copied, ms; undefined: for ever. */
  readonly relayIdleMs?: number | undefined;
  /** How long bytes for a peer or an endpoint may stay unacknowledged, ms; 0: as long as the kernel has it. */
  readonly userTimeoutMs: number;
  readonly identity: WorkloadIdentity | undefined;
  /** Listening descriptors that belong to this worker alone. */
  readonly inboundFds: readonly number[];
  readonly outboundFds: readonly number[];
  readonly debug: boolean;
  readonly tap: boolean;
  /** Key exchange groups instead of the default ones; for benchmarks against peers that have fewer. */
  readonly tlsGroups?: string;
}

const EXPIRE_MS = 1_000;

type FromMain = WorkerOrder | DiscoveryMessage | MetricsEviction;

/** Assembles one worker: the only place that builds the data plane's things and hands them to each other. */
function run(start: WorkerStart, port: NonNullable<typeof parentPort>): void {
  const post = (message: WorkerReport | DiscoveryRequest) => port.postMessage(message);
  const log = portLogger(post, start.debug);
  const runtime = createRuntime(log, systemClock, start.relayIdleMs);
  const networks = start.clusterNetworks.map(parseCidr).filter((net) => net !== undefined);
  const discovery = new DiscoveryClient(port, {
    clock: runtime.clock,
    later: runtime.turns.add,
    defaultInbound: (p) =>
      defaultInboundPolicy(start.defaultPolicy, {
        detectTimeoutMs: start.inbound.detectTimeoutMs,
        clusterNetworks: networks,
        opaque: start.opaquePorts.includes(p),
      }),
  });
  const mesh = new MeshTls(log, start.tlsGroups);
  const connections = new Connections();
  const metrics = new SlotRegistry((announcement) => port.postMessage(announcement));
  const localIps = new Set(start.outbound.localIps);
  const recorder = (direction: "inbound" | "outbound") =>
    new ExchangeRecorder({
      direction,
      runtime,
      metrics,
      identity: () => mesh.identity,
      tapped: (event) => post({ type: "worker.tap", event }),
      localIps,
    });
  const recorders = { inbound: recorder("inbound"), outbound: recorder("outbound") };
  const meters = {
    inbound: new InboundConnectionRecorder(metrics),
    outbound: new OutboundConnectionRecorder(metrics, localIps),
  };
  const shared = { runtime, discovery, mesh, connections, rng: Math.random };
  const inbound = new InboundAcceptor({
    ...shared,
    config: start.inbound,
    recorder: recorders.inbound,
    meters: meters.inbound,
    buckets: new RateBuckets(start.rateBuckets),
  });
  const outbound = new OutboundAcceptor(
    {
      ...shared,
      config: {
        ...start.outbound,
        localIps,
        probeTargets: new Set(start.outbound.probeTargets),
      },
      recorder: recorders.outbound,
      meters: meters.outbound,
      tune: (fd) => setUserTimeout(fd, start.userTimeoutMs),
    },
    start.outbound.port,
  );
  const listeners: Listener[] = [];
  const limits =
    start.connections &&
    new ConnectionLimits(start.connections.table, start.index, start.connections.bounds, start.connections.seed);
  const admit = limits && {
    inbound: admittance(limits, true, runtime, meters.inbound),
    outbound: admittance(limits, false, runtime, meters.outbound),
  };

  /** Sockets are open from the start (the kernel queues); connections are taken once we can prove who we are. */
  const accept = async () => {
    post({ type: "worker.adopting" });
    for (const fd of start.inboundFds) {
      // What is accepted inherits it. Programs of this host have no use for it, nor has its application.
      setUserTimeout(fd, start.userTimeoutMs);
      await open((accepted) => inbound.accept(accepted), fd, admit?.inbound);
    }
    for (const fd of start.outboundFds) await open((accepted) => outbound.accept(accepted), fd, admit?.outbound);
    post({ type: "worker.ready" });
  };
  const open = async (handler: ConstructorParameters<typeof Listener>[0], fd: number, admit?: Admittance) => {
    const listener = new Listener(handler, log, admit);
    listeners.push(listener);
    await listener.listen({ fd });
  };
  const setTap = (on: boolean) => {
    recorders.inbound.tapping = on;
    recorders.outbound.tapping = on;
  };
  setTap(start.tap);

  const expiry = setInterval(() => {
    const now = runtime.clock.now();
    discovery.expire(now);
    inbound.expire(now);
    outbound.expire(now);
  }, EXPIRE_MS);
  expiry.unref();

  /** A connection that is being looked at, or waits for discovery, is nobody's yet: its socket counts, too. */
  const drain = () => {
    let left = listeners.length + 1;
    const ended = () => {
      if (--left === 0) post({ type: "worker.drained" });
    };
    for (const listener of listeners) listener.stop(ended);
    connections.drain(ended);
  };

  let accepting = false;
  const identified = (identity: WorkloadIdentity) => {
    mesh.update(identity);
    if (accepting) return;
    accepting = true;
    void accept();
  };

  port.on("message", (message: FromMain) => {
    switch (message.type) {
      case "identity":
        return identified(message.identity);
      case "drain":
        return drain();
      case "count":
        return post({ type: "worker.count", connections: connections.size });
      case "destroy":
        connections.destroyAll();
        for (const listener of listeners) listener.destroyAll();
        inbound.close();
        outbound.close();
        runtime.wheel.stop();
        return clearInterval(expiry);
      case "tap":
        return setTap(message.on);
      case "metrics.evict":
        return metrics.evict(message);
      default:
        discovery.receive(message);
    }
  });
  if (start.identity !== undefined) identified(start.identity);
}

function portLogger(post: (report: WorkerReport) => void, debug: boolean): Logger {
  const at = (level: "error" | "warn" | "info" | "debug") => (message: string, fields?: LogFields) =>
    post({ type: "worker.log", level, message, fields: fields ?? {} });
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: debug ? at("debug") : () => {} };
}

if (!isMainThread && parentPort !== null) run(workerData as WorkerStart, parentPort);
