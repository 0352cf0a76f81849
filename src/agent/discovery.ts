import { realScheduler } from "../bootstrap/control/index.ts";
import type { StoredMembership } from "../bootstrap/identity/index.ts";
import type { IdentitySource } from "../proxy/core/identity.ts";
import type { MetricsRegistry } from "../proxy/core/metrics.ts";
import { Hub } from "../proxy/discovery/index.ts";
import { openAnswerStore } from "./answer-store.ts";
import type { Config } from "./config.ts";
import { ControlPlaneClient } from "./control-plane.ts";
import type { AgentLogger } from "./log.ts";
import { clusterNetworks, tokenOf } from "./workload-facts.ts";

const POLICY_PORT = 8090;
const DESTINATION_PORT = 8086;

export interface DiscoveryDeps {
  readonly config: Config;
  readonly identity: IdentitySource;
  /** As it is now: enrollers, names and addresses of the control plane change. */
  readonly member: () => StoredMembership | undefined;
  readonly registry: MetricsRegistry;
  readonly log: AgentLogger;
}

/** The discovery hub, on the control plane's destination and policy services: through the enroller's port or dialled. */
export function createDiscovery({ config, identity, member, registry, log }: DiscoveryDeps): Hub {
  const direct = config["controlPlane.direct"];
  const locate = (own: string, service: "destination" | "policy") => () => {
    const mesh = member()?.configuration;
    const tlsName = config["controlPlane.name"] || mesh?.[service].tlsName || "";
    if (own !== "") return { addresses: [own], tlsName };
    return { addresses: direct ? (mesh?.[service].addresses ?? []) : (member()?.enrollers ?? []), tlsName };
  };
  const connected = () => hub.retryNow();
  const client = (own: string, service: "destination" | "policy", port: number) =>
    new ControlPlaneClient({
      identity,
      locate: locate(own, service),
      connected,
      metrics: registry,
      ...(direct ? {} : { throughPort: port }),
    });
  const destination = client(config["controlPlane.destination"], "destination", DESTINATION_PORT);
  const policy = client(config["controlPlane.policy"], "policy", POLICY_PORT);
  const hub = new Hub({
    destination: destination.get,
    policy: policy.get,
    contextToken: () => member()?.configuration.contextToken ?? tokenOf(config),
    policyWorkload: () => member()?.configuration.policyToken ?? tokenOf(config),
    profileNetworks: () => clusterNetworks(config, member()?.configuration),
    clock: realScheduler,
    timers: realScheduler,
    rng: Math.random,
    timeoutMs: config["discovery.timeout"],
    maxStaleMs: config["discovery.maxStale"],
    store: openAnswerStore(`${config["state.directory"]}/discovery`, log),
    log: log,
  });
  return hub;
}
