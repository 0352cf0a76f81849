import { randomInt } from "node:crypto";
import type { SocketAddress } from "../proxy/core/address.ts";
import type { Millis } from "../proxy/core/clock.ts";
import type { ConnectionFailure } from "../proxy/stack/index.ts";
import {
  type Admittance,
  type ConnectionBounds,
  type ConnectionLimits,
  connectionTable,
  type Refusal,
  type Runtime,
} from "../proxy/transport/index.ts";
import type { Config } from "./config.ts";

/** What a worker needs to count connections together with the others. */
export interface ConnectionStart {
  readonly bounds: ConnectionBounds;
  readonly table: SharedArrayBuffer;
  readonly seed: number;
}

// A flood is one line now and then, not one per connection.
const SAY_AGAIN_MS = 10_000;
// Standard streams, listeners, epoll, the control plane's channels, stored answers being written, one certificate read.
const OWN_DESCRIPTORS = 512;

/**
 * The bounds that a configuration means. Zero in it stands for what the descriptors allow: a connection through the proxy
 * takes two, and the last twentieth of them is for other clients than the busiest.
 */
function connectionBounds(total: number, perClient: number, descriptors: number): ConnectionBounds {
  const most = total > 0 ? total : Math.max(16, Math.floor((descriptors - OWN_DESCRIPTORS) / 2));
  return { total: most, perClient: perClient > 0 ? perClient : Math.max(8, Math.floor(most * 0.95)) };
}

/** Once per process, for all its workers. @param descriptors - The process's limit. */
export function connectionStart(config: Config, workers: number, descriptors: number): ConnectionStart {
  return {
    bounds: connectionBounds(config["proxy.maxConnections"], config["inbound.maxConnectionsPerClient"], descriptors),
    table: connectionTable(workers),
    seed: randomInt(2 ** 32),
  };
}

/** Counts and, now and then, logs the connections of one side that are refused because there are too many. */
export function admittance(
  limits: ConnectionLimits,
  byClient: boolean,
  runtime: Runtime,
  meters: { failed(originalDst: SocketAddress, failure: ConnectionFailure): void },
): Admittance {
  let saidAt: Millis = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return {
    limits,
    byClient,
    refused({ client, originalDst }, why: Refusal) {
      meters.failed(originalDst, "too-many-connections");
      unsaid++;
      const now = runtime.clock.now();
      if (now - saidAt < SAY_AGAIN_MS) return;
      runtime.log.warn("refused connections: too many are open", {
        side: byClient ? "inbound" : "outbound",
        limit: why === "total" ? "proxy.maxConnections" : "inbound.maxConnectionsPerClient",
        client: client.ip,
        refused: unsaid,
        open: limits.open,
      });
      saidAt = now;
      unsaid = 0;
    },
  };
}
