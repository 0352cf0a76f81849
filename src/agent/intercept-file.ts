import type { MeshConfiguration } from "../bootstrap/control/index.ts";
import type { InterceptionFile } from "../bootstrap/interception/index.ts";
import { formatCidr, parseSocketAddress } from "../proxy/core/address.ts";
import type { Config } from "./config.ts";

/** The file, in the state directory, from which root applies the rules. */
export const INTERCEPTION_FILE = "interception.json";

/**
 * What should be captured, from what the cluster and the operator said.
 * @param uid - The agent's own, whose connections are exempt.
 */
export function interceptionFile(
  config: Config,
  mesh: MeshConfiguration | undefined,
  enrollers: readonly string[],
  uid: number,
  unit: string | undefined,
): InterceptionFile {
  const networks = new Set([...config["interception.capture"].map(formatCidr), ...(mesh?.captureNetworks ?? [])]);
  const ports = new Set([...config["inbound.ports"], ...(mesh?.ports.map((port) => port.port) ?? [])]);
  const exempt = [
    ...enrollers.map((address) => [address, "enroller"] as const),
    ...(mesh?.destination.addresses ?? []).map((address) => [address, "control plane"] as const),
    ...(mesh?.policy.addresses ?? []).map((address) => [address, "control plane"] as const),
  ].flatMap(([text, reason]) => {
    const address = parseSocketAddress(text);
    return address === undefined ? [] : [{ network: address.ip, port: address.port, reason }];
  });
  return {
    format: 1,
    outbound: {
      networks: [...networks],
      onDeath: config["interception.onDeathOutbound"],
      proxyPort: config["outbound.port"],
      exempt,
    },
    inbound: {
      // The admin port is reached through the proxy's own port, and is on loopback otherwise.
      ports: [...ports].filter((port) => port !== config["admin.address"].port),
      onDeath: config["interception.onDeathInbound"],
      proxyPort: config["inbound.port"],
      sshPorts: [...config["interception.sshPorts"]],
    },
    agent: unit === undefined ? { uid } : { uid, unit },
  };
}
