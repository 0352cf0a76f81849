import type { Rng } from "../core/clock.ts";
import type { DiscoveryClient } from "../discovery/index.ts";
import type { AttemptRecorder, OutboundMeters } from "../stack/index.ts";
import type { TuneSocket } from "../transport/connect.ts";
import type { Connections } from "../transport/connections.ts";
import type { MeshTls } from "../transport/mesh-tls.ts";
import type { Runtime } from "../transport/runtime.ts";

export interface OutboundConfig {
  /** Linkerd: LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT, 10 s. */
  readonly detectTimeoutMs: number;
  /** TCP, TLS and header. Linkerd: 1 s. */
  readonly connectTimeoutMs: number;
  /** How long a request may wait for a ready endpoint. Linkerd: 3 s. */
  readonly failfastMs: number;
  /** What becomes of an endpoint whose announced identity cannot be checked. Default: refuse; Linkerd: plaintext. */
  readonly onMissingIdentity?: "refuse" | "plaintext" | undefined;
  /** Whether weights and zones of endpoints count in balancing; default: they do. Linkerd's balancer reads neither. */
  readonly endpointWeights?: boolean | undefined;
  /** Whether endpoints on this host's loopback interface are dialled; default: refused, as by Linkerd. For hops on one host. */
  readonly dialsLoopback?: boolean | undefined;
  /** Addresses of this workload: endpoints there are spoken to in clear text, by themselves. */
  readonly localIps: ReadonlySet<string>;
  /** `ip:port` of the agent's self-probe: a connection to it has proved, by arriving, that interception works. */
  readonly probeTargets?: ReadonlySet<string>;
}

/** Everything the outbound side is given. */
export interface OutboundDeps {
  readonly config: OutboundConfig;
  readonly runtime: Runtime;
  readonly discovery: DiscoveryClient;
  readonly mesh: MeshTls;
  readonly connections: Connections;
  readonly recorder: AttemptRecorder;
  readonly meters: OutboundMeters;
  readonly rng: Rng;
  /** For connections to endpoints. */
  readonly tune?: TuneSocket | undefined;
}
