import { networkInterfaces } from "node:os";
import type { MeshConfiguration } from "../bootstrap/control/index.ts";
import { PROBE } from "../bootstrap/interception/index.ts";
import { formatCidr, formatSocketAddress } from "../proxy/core/address.ts";
import { DEFAULT_POLICIES, type DefaultPolicyName } from "../proxy/policy/index.ts";
import type { Config } from "./config.ts";
import type { WorkerPool } from "./worker-pool.ts";
import { clusterNetworks } from "./workload-facts.ts";

type Settings = ReturnType<ConstructorParameters<typeof WorkerPool>[0]["start"]>;

/** What every worker is started with; asked again for one that starts later, since the mesh's part may have changed. */
export function workerSettings(
  config: Config,
  mesh: MeshConfiguration | undefined,
  rateBuckets: SharedArrayBuffer,
  debug: boolean,
): Settings {
  const configured = mesh?.defaultInboundPolicy;
  const addresses = config["workload.addresses"];
  return {
    inbound: {
      port: config["inbound.port"],
      detectTimeoutMs: config["inbound.detectTimeout"],
      connectTimeoutMs: config["inbound.connectTimeout"],
      failfastMs: config["inbound.failfastTimeout"],
      admin: config["admin.address"],
    },
    outbound: {
      port: config["outbound.port"],
      detectTimeoutMs: config["outbound.detectTimeout"],
      connectTimeoutMs: config["outbound.connectTimeout"],
      failfastMs: config["outbound.failfastTimeout"],
      onMissingIdentity: config["outbound.onMissingIdentity"],
      endpointWeights: config["outbound.endpointWeights"],
      localIps: addresses.length > 0 ? addresses : hostAddresses(),
      probeTargets: [
        formatSocketAddress({ ip: PROBE.v4, port: PROBE.port }),
        formatSocketAddress({ ip: PROBE.v6, port: PROBE.port }),
      ],
    },
    defaultPolicy: isDefaultPolicy(configured) ? configured : config["inbound.defaultPolicy"],
    clusterNetworks: clusterNetworks(config, mesh).map(formatCidr),
    opaquePorts: [...config["inbound.opaquePorts"], ...(mesh?.opaquePorts ?? [])],
    rateBuckets,
    userTimeoutMs: config["proxy.userTimeout"],
    debug,
  };
}

function isDefaultPolicy(name: string | undefined): name is DefaultPolicyName {
  return DEFAULT_POLICIES.some((known) => known === name);
}

function hostAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter((address) => !address.internal)
    .map((address) => address.address);
}
