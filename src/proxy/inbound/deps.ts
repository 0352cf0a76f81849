import type { SocketAddress } from "../core/address.ts";
import type { Rng } from "../core/clock.ts";
import type { DiscoveryClient } from "../discovery/index.ts";
import type { RateBuckets } from "../policy/index.ts";
import type { InboundMeters, Recorder } from "../stack/index.ts";
import type { Connections } from "../transport/connections.ts";
import type { MeshTls } from "../transport/mesh-tls.ts";
import type { Runtime } from "../transport/runtime.ts";
import type { Seldom } from "./seldom.ts";

export interface InboundConfig {
  /** Port of the direct path, 4143. */
  readonly port: number;
  /** How long the first bytes may take, ms. Linkerd: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT, 10 s. */
  readonly detectTimeoutMs: number;
  /** To the application. Linkerd: 300 ms, 100 ms in the chart. */
  readonly connectTimeoutMs: number;
  /** How long an HTTP/2 request waits for the application to listen. Linkerd: 1 s. */
  readonly failfastMs: number;
  /** Where our own admin server listens: meshed peers reach it under its port, as far as that port's policy lets them. */
  readonly admin?: SocketAddress | undefined;
  /** Requests that may wait for their response's head, per road. Linkerd: LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT, 100,000. */
  readonly maxInFlight?: number;
}

/** Everything the inbound side is given. */
export interface InboundDeps {
  readonly config: InboundConfig;
  readonly runtime: Runtime;
  readonly discovery: DiscoveryClient;
  readonly mesh: MeshTls;
  readonly connections: Connections;
  readonly recorder: Recorder;
  readonly meters: InboundMeters;
  readonly rng: Rng;
  /** What rate limits have used up: of the whole host, wherever a client's connection ended up. */
  readonly buckets: RateBuckets;
}

/** What its own parts are given. */
export interface InboundParts extends InboundDeps {
  /** For lines that every request or connection could cause. */
  readonly seldom: Seldom;
}
