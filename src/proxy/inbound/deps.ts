import type { Rng } from "../core/clock.ts";
import type { DiscoveryClient } from "../discovery/index.ts";
import type { InboundMeters, Recorder } from "../stack/index.ts";
import type { Connections } from "../transport/connections.ts";
import type { MeshTls } from "../transport/mesh-tls.ts";
import type { Runtime } from "../transport/runtime.ts";

export interface InboundConfig {
  /** Port of the direct path, 4143. */
  readonly port: number;
  /** How long the first bytes may take, ms. Linkerd: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT, 10 s. */
  readonly detectTimeoutMs: number;
  /** To the application. Linkerd: 300 ms, 100 ms in the chart. */
  readonly connectTimeoutMs: number;
  /** How long an HTTP/2 request waits for the application to listen. Linkerd: 1 s. */
  readonly failfastMs: number;
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
  /** This worker's part of a rate limit: limits are per host, buckets per worker. */
  readonly share?: number;
  /** Takes a connection that the transport header addressed to one of our own ports, such as the admin server's. */
  readonly local?: ReadonlyMap<
    number,
    (socket: import("node:net").Socket, unread: Buffer, identity: string | undefined) => void
  >;
}
