/**
 * One hop as a process of its own, for comparisons: the real worker thread with its real stacks, fed with fixed answers
 * where the agent would ask the control plane.
 *
 *   node bench/load/hop.ts '{"role":"outbound","listen":8201,"peerPort":8202,"appPort":8000,"keyFile":…}'
 *
 * Prints `ready` when it accepts, and ends on SIGTERM.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { Worker } from "node:worker_threads";
import { dup } from "../../src/agent/posix.ts";
import type { WorkerStart } from "../../src/agent/worker.ts";
import { letWorkerHeapsGrow } from "../../src/agent/worker-heap.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import type { DiscoveryRequest, WorkerReport } from "../../src/proxy/core/messages.ts";
import type { DiscoveryMessage } from "../../src/proxy/discovery/index.ts";
import {
  defaultInboundPolicy,
  forwardPolicy,
  type OutboundPolicy,
  RATE_BUCKET_BYTES,
} from "../../src/proxy/policy/index.ts";

import { routedPolicy } from "./policy.ts";

/** How a hop is set up. Files are PEM; the certificate's first DNS name is the identity of both hops. */
export interface HopOptions {
  readonly role: "outbound" | "inbound";
  readonly listen: number;
  /** Outbound: where the inbound hop listens. */
  readonly peerPort?: number;
  readonly appPort: number;
  readonly keyFile: string;
  readonly certificateFile: string;
  readonly anchorsFile: string;
  readonly identity: string;
  /** Carry bytes instead of HTTP. */
  readonly opaque?: boolean;
  /** Inbound: answer with a policy as an operator writes it, see `policy.ts`, instead of the default one. */
  readonly policy?: boolean;
  readonly tlsGroups?: string;
  readonly workers?: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as HopOptions;
const read = (file: string) => readFileSync(file, "utf8");
const identity: WorkloadIdentity = {
  generation: 1,
  name: options.identity,
  uri: undefined,
  serverName: options.identity,
  keyPem: read(options.keyFile),
  certificatePem: read(options.certificateFile),
  trustAnchorsPem: [read(options.anchorsFile)],
  notBeforeMs: 0,
  notAfterMs: Number.MAX_SAFE_INTEGER,
};

function answer(request: DiscoveryRequest): DiscoveryMessage | undefined {
  if (request.type !== "discovery.watch") return undefined;
  const { target } = request;
  switch (target.kind) {
    case "inbound":
      return {
        type: "discovery.inbound",
        key: `inbound ${target.port}`,
        value:
          options.policy === true
            ? routedPolicy(options.identity)
            : defaultInboundPolicy("all-authenticated", {
                detectTimeoutMs: 10_000,
                clusterNetworks: [],
                opaque: options.opaque === true,
              }),
      };
    case "outbound":
      return {
        type: "discovery.outbound",
        key: `outbound ${target.ip}:${target.port}`,
        value: { policy: outboundPolicy(), profile: undefined },
      };
    case "endpoints":
      return undefined;
    default:
      return target satisfies never;
  }
}

function outboundPolicy(): OutboundPolicy {
  const policy = forwardPolicy("endpoint", {
    key: `127.0.0.1:${options.appPort}`,
    address: { ip: "127.0.0.1", port: options.appPort },
    identity: { kind: "dns", id: options.identity, serverName: options.identity },
    expectsIdentity: true,
    hint: options.opaque === true ? "opaque" : "h2",
    inboundPort: options.peerPort,
    authorityOverride: undefined,
    weight: 10_000,
    zone: undefined,
    zoneLocality: "unknown",
    labels: {},
    http2: undefined,
  });
  return options.opaque === true ? { ...policy, kind: "opaque" } : policy;
}

// As under systemd: the process opens one descriptor, every worker gets a duplicate of its own.
const holder = createServer();
holder.listen({ host: "127.0.0.1", port: options.listen }, () => {
  const { fd } = (holder as unknown as { _handle: { fd: number } })._handle;
  const count = options.workers ?? 1;
  let ready = 0;
  const rateBuckets = new SharedArrayBuffer(RATE_BUCKET_BYTES);
  for (let index = 0; index < count; index++) {
    const copies = [dup(fd)];
    const start: WorkerStart = {
      index,
      workers: count,
      inbound: {
        port: options.role === "inbound" ? options.listen : 4143,
        detectTimeoutMs: 10_000,
        connectTimeoutMs: 1_000,
        failfastMs: 1_000,
      },
      outbound: {
        port: 4140,
        detectTimeoutMs: 10_000,
        connectTimeoutMs: 1_000,
        failfastMs: 3_000,
        localIps: [],
        dialsLoopback: true,
        probeTargets: [],
      },
      defaultPolicy: "all-authenticated",
      clusterNetworks: [],
      opaquePorts: options.opaque === true ? [options.appPort] : [],
      rateBuckets,
      userTimeoutMs: 30_000,
      identity,
      inboundFds: options.role === "inbound" ? copies : [],
      outboundFds: options.role === "outbound" ? copies : [],
      debug: process.env["HOP_DEBUG"] !== undefined,
      tap: false,
      ...(options.tlsGroups === undefined ? {} : { tlsGroups: options.tlsGroups }),
    };
    // Bundled by the benchmark, or as it stands in the tree.
    const script = import.meta.url.endsWith(".ts") ? "../../src/agent/worker.ts" : "./worker.js";
    letWorkerHeapsGrow();
    const worker = new Worker(new URL(script, import.meta.url), { workerData: start });
    worker.on("message", (message: WorkerReport | DiscoveryRequest) => {
      if (message.type === "worker.ready") {
        if (++ready === count) process.stdout.write("ready\n");
      } else if (message.type === "worker.log") process.stderr.write(`${JSON.stringify(message)}\n`);
      else if (message.type === "discovery.watch") {
        const reply = answer(message);
        if (reply !== undefined) worker.postMessage(reply);
      }
    });
    worker.on("error", (error) => {
      console.error(error);
      process.exit(1);
    });
  }
});
// Nobody accepts here: only the duplicates live on.
holder.on("listening", () => setImmediate(() => holder.close()));
process.on("SIGTERM", () => process.exit(0));
