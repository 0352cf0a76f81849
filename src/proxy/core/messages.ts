import type { Endpoint } from "./endpoint.ts";
import type { WorkloadIdentity } from "./identity.ts";
import type { LogFields } from "./log.ts";
import type { Labels } from "./metrics.ts";

/** What a worker can ask the hub to watch. */
export type DiscoveryTarget =
  | { readonly kind: "inbound"; readonly port: number }
  | { readonly kind: "outbound"; readonly ip: string; readonly port: number }
  | { readonly kind: "endpoints"; readonly path: string };

/** One text per target: the key of both caches and of the stored answers. */
export function discoveryKey(target: DiscoveryTarget): string {
  switch (target.kind) {
    case "inbound":
      return `inbound ${target.port}`;
    case "outbound":
      return target.ip.includes(":")
        ? `outbound [${target.ip}]:${target.port}`
        : `outbound ${target.ip}:${target.port}`;
    case "endpoints":
      return `endpoints ${target.path}`;
    default:
      return target satisfies never;
  }
}

/** Worker → main thread. A worker asks once per target and says when it no longer cares. */
export type DiscoveryRequest =
  | { readonly type: "discovery.watch"; readonly target: DiscoveryTarget }
  | { readonly type: "discovery.unwatch"; readonly target: DiscoveryTarget }
  /** What the hub said of the target is not what the worker finds. */
  | { readonly type: "discovery.suspect"; readonly target: DiscoveryTarget }
  /** A long message has been taken in: there is time for another. */
  | { readonly type: "discovery.taken"; readonly target: DiscoveryTarget };

/**
 * Why there is no answer: the control plane said that the question is wrong (`refused`), did not answer within
 * `discovery.timeoutMs` (`unreachable`; of an inbound port: not yet), or has been silent for longer than `discovery.maxStale` (`stale`).
 */
export type DiscoveryFailure = "refused" | "unreachable" | "stale";

/**
 * Main thread → worker. Generic because this ring does not know what a policy is; `proxy/discovery` names the types.
 * All of it is structured-clone safe. Endpoints travel as differences: `reset` starts anew with the given ones.
 */
export type DiscoveryMessageOf<Inbound, Outbound> =
  | { readonly type: "discovery.inbound"; readonly key: string; readonly value: Inbound }
  | { readonly type: "discovery.outbound"; readonly key: string; readonly value: Outbound }
  | {
      readonly type: "discovery.endpoints";
      readonly key: string;
      readonly reset: boolean;
      /** New or changed. */
      readonly add: readonly Endpoint[];
      /** Keys of endpoints that are gone. */
      readonly remove: readonly string[];
    }
  | {
      readonly type: "discovery.failed";
      readonly key: string;
      readonly failure: DiscoveryFailure;
      /** For logs and error texts. */
      readonly why: string;
    };

/**
 * Worker → main thread: where a series lives. The worker alone writes the slots, the main thread reads them; a page is
 * announced before the first series in it.
 */
export type MetricsAnnouncement =
  | { readonly type: "metrics.page"; readonly page: number; readonly memory: SharedArrayBuffer }
  | {
      readonly type: "metrics.series";
      /** Unique within the worker. */
      readonly id: number;
      readonly family: string;
      readonly labels: Labels;
      readonly page: number;
      /** First slot in the page. A histogram has one per bucket, one for +Inf and one for the sum. */
      readonly slot: number;
      /** A histogram's upper bounds; empty for the others. */
      readonly buckets: readonly number[];
    }
  /** Nobody in the worker holds the series any more, or again; only idle ones may be evicted. */
  | { readonly type: "metrics.held"; readonly id: number; readonly held: boolean }
  /** The answer to an eviction: what the slots held at the end, or nothing because somebody holds the series again. */
  | { readonly type: "metrics.evicted"; readonly id: number; readonly values: readonly number[] | undefined };

/** Main thread → worker: the series has been idle for the retention time; forget it unless somebody holds it. */
export type MetricsEviction = { readonly type: "metrics.evict"; readonly id: number };

/** One finished exchange, as `tap` and the access log show it. Plain data. */
export interface TapEvent {
  readonly direction: "inbound" | "outbound";
  /** Unix milliseconds at which the request arrived. */
  readonly atMs: number;
  readonly method: string;
  readonly authority: string;
  /** Path without the query: queries carry secrets. */
  readonly path: string;
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly source: string;
  /** What the client proved to be; outbound: who we are. */
  readonly sourceIdentity: string | undefined;
  readonly destination: string;
  /** Whom the endpoint had to prove to be; inbound: who we are. */
  readonly destinationIdentity: string | undefined;
  readonly tls: boolean;
  readonly route: string;
  readonly latencyMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
}

/** Main thread → worker, beside discovery and metrics. */
export type WorkerOrder =
  | { readonly type: "identity"; readonly identity: WorkloadIdentity }
  /** Take no more connections, finish those that are open. */
  | { readonly type: "drain" }
  /** Say how many connections are open. */
  | { readonly type: "count" }
  /** Close what is still open. */
  | { readonly type: "destroy" }
  | { readonly type: "tap"; readonly on: boolean };

/** Worker → main thread, beside discovery and metrics. */
export type WorkerReport =
  /** The listening descriptors are the worker's from now on: it closes them, also by dying. */
  | { readonly type: "worker.adopting" }
  /** Accepting; only after the first identity. */
  | { readonly type: "worker.ready" }
  | { readonly type: "worker.drained" }
  | { readonly type: "worker.count"; readonly connections: number }
  | {
      readonly type: "worker.log";
      readonly level: "error" | "warn" | "info" | "debug";
      readonly message: string;
      readonly fields: LogFields;
    }
  | { readonly type: "worker.tap"; readonly event: TapEvent };
