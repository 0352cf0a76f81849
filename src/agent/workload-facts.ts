import { type MeshConfiguration, workloadToken } from "../bootstrap/control/index.ts";
import { type Cidr, parseCidr } from "../proxy/core/address.ts";
import type { Config } from "./config.ts";

/** The name by which the control plane knows this workload, where the enroller has not told another one. */
export function tokenOf(config: Config): string {
  const namespace = config["workload.namespace"];
  const name = config["workload.name"];
  return config["workload.kind"] === "pod"
    ? JSON.stringify({ ns: namespace, pod: name })
    : workloadToken(namespace, name);
}

/** The cluster's networks as the mesh says, else as configured. */
export function clusterNetworks(config: Config, mesh: MeshConfiguration | undefined): readonly Cidr[] {
  const told = mesh?.clusterNetworks.map(parseCidr).filter((net) => net !== undefined);
  return told !== undefined && told.length > 0 ? told : config["inbound.clusterNetworks"];
}

/** Ports whose policies are watched from the start: those that the workload declares, and the proxy's own. */
export function watchedPorts(config: Config, mesh: MeshConfiguration | undefined): readonly number[] {
  const declared = mesh?.ports.map((port) => port.port) ?? [];
  return [...new Set([...config["inbound.ports"], ...declared, config["admin.address"].port])];
}
