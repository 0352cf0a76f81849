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
 * @param apiServers - Addresses of the Kubernetes API.
 * @param uid - The agent's own, whose connections are exempt.
 */
export function interceptionFile(
  config: Config,
  mesh: MeshConfiguration | undefined,
  enrollers: readonly string[],
  apiServers: readonly string[],
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
  const never = [
    ...config["interception.exempt"].map(({ network, port }) => ({
      network: formatCidr(network),
      reason: "interception.exempt",
      ...(port === undefined ? {} : { port }),
    })),
    ...apiServers.map((network) => ({ network, port: 443, reason: "Kubernetes API" })),
  ];
  return {
    format: 1,
    outbound: {
      networks: [...networks],
      onDeath: config["interception.onDeathOutbound"],
      proxyPort: config["outbound.port"],
      exempt: [...exempt, ...never],
      forwarded: [...config["interception.forwarded"]],
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

/** @throws CommandError (64) for a user or group that this host does not know, and for more than one kind of them. */
function selection(config: Config): Pick<NonNullable<InterceptionFile["outbound"]>, "selection"> {
  const users = config["interception.users"];
  const groups = config["interception.groups"];
  const units = config["interception.units"];
  const given = [
    ...(users.length > 0 ? ["interception.users"] : []),
    ...(groups.length > 0 ? ["interception.groups"] : []),
    ...(units.length > 0 ? ["interception.units"] : []),
  ];
  if (given.length > 1)
    throw new CommandError(EXIT.configuration, `${given.join(" and ")} are both set`, "choose one of them");
  if (units.length > 0) return { selection: { units } };
  if (users.length > 0) return { selection: { uids: users.map((name) => idOf("user", name)) } };
  if (groups.length > 0) return { selection: { gids: groups.map((name) => idOf("group", name)) } };
  return {};
}

function idOf(kind: "user" | "group", name: string): number {
  if (/^\d{1,9}$/.test(name)) return Number(name);
  const file = kind === "user" ? "/etc/passwd" : "/etc/group";
  const line = readFileSync(file, "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  if (line === undefined)
    throw new CommandError(
      EXIT.configuration,
      `interception.${kind}s: there is no ${kind} ${name}`,
      `name one of ${file}, or a number`,
    );
  return Number(line.split(":")[2]);
}
