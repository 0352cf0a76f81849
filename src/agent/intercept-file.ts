import { readFileSync } from "node:fs";
import type { MeshConfiguration } from "../bootstrap/control/index.ts";
import type { InterceptionFile } from "../bootstrap/interception/index.ts";
import { formatCidr, parseSocketAddress } from "../proxy/core/address.ts";
import type { Config } from "./config.ts";
import { CommandError, EXIT } from "./exit.ts";

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
      ...selection(config),
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

/** @throws CommandError (64) for a user that this host does not know, and for users and units together. */
function selection(config: Config): Pick<NonNullable<InterceptionFile["outbound"]>, "selection"> {
  const users = config["interception.users"];
  const units = config["interception.units"];
  if (users.length > 0 && units.length > 0)
    throw new CommandError(
      EXIT.configuration,
      "interception.users and interception.units are both set",
      "choose one of them",
    );
  if (units.length > 0) return { selection: { units } };
  if (users.length > 0) return { selection: { uids: users.map(uidOf) } };
  return {};
}

function uidOf(user: string): number {
  if (/^\d{1,9}$/.test(user)) return Number(user);
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${user}:`));
  if (line === undefined)
    throw new CommandError(
      EXIT.configuration,
      `interception.users: there is no user ${user}`,
      "name one of /etc/passwd, or a number",
    );
  return Number(line.split(":")[2]);
}
