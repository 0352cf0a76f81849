import { fstatSync } from "node:fs";
import type { Config } from "./config.ts";
import { CommandError, EXIT } from "./exit.ts";
import { localPort, transparentListener } from "./posix.ts";

/** Which of the agent's listening sockets a descriptor is, after systemd's `FileDescriptorName=`. */
export type ListenerRole = "inbound" | "outbound" | "admin" | "control" | "dns";

export type ListenerFds = ReadonlyMap<ListenerRole, readonly number[]>;

/** The first inherited descriptor (sd_listen_fds(3)). */
export const FIRST_FD = 3;
const ROLES: readonly ListenerRole[] = ["inbound", "outbound", "admin", "control", "dns"];

/**
 * Reads what systemd passed in (sd_listen_fds(3)); undefined if this process was not started with sockets.
 * @param inherited - A running agent passed them on, which could not know our process id.
 */
export function systemdListeners(
  environment: NodeJS.ProcessEnv,
  pid: number,
  inherited = false,
): ListenerFds | undefined {
  const count = Number(environment["LISTEN_FDS"]);
  if (!(inherited || Number(environment["LISTEN_PID"]) === pid) || !Number.isInteger(count) || count < 1)
    return undefined;
  const names = (environment["LISTEN_FDNAMES"] ?? "").split(":");
  const found = new Map<ListenerRole, number[]>();
  for (let i = 0; i < count; i++) {
    const role = ROLES.find((known) => known === names[i]?.replace(/^mesh-agent-/, ""));
    if (role === undefined || !fstatSync(FIRST_FD + i).isSocket()) continue;
    found.set(role, [...(found.get(role) ?? []), FIRST_FD + i]);
  }
  return found;
}

/**
 * The rules send connections to the configured ports, and systemd listens where its units say: these must be the same.
 * @throws CommandError (64) naming the key and the unit that differ.
 */
export function refuseOtherPorts(listeners: ListenerFds, config: Config): void {
  for (const role of ["inbound", "outbound"] as const)
    for (const fd of listeners.get(role) ?? []) {
      const port = localPort(fd);
      if (port !== undefined && port !== config[`${role}.port`])
        throw new CommandError(
          EXIT.configuration,
          `${role}.port is ${config[`${role}.port`]}, but systemd listens on ${port}`,
          `systemctl edit mesh-agent-${role}.socket, or take ${role}.port out of the configuration`,
        );
    }
}

/** Opens the two intercepting listeners ourselves: in containers and the lab, where systemd does not. */
export function ownListeners(config: Config): ListenerFds {
  const open = (address: string, port: number): number => {
    try {
      return transparentListener({ address, port, backlog: 4096 });
    } catch (error) {
      throw listenFailure(address, port, error);
    }
  };
  const outbound = [open("127.0.0.1", config["outbound.port"])];
  try {
    outbound.push(transparentListener({ address: "::1", port: config["outbound.port"], backlog: 4096 }));
  } catch {
    // A host without IPv6 has nothing to intercept there.
  }
  let inbound: number;
  try {
    inbound = transparentListener({ address: "::", port: config["inbound.port"], backlog: 4096 });
  } catch {
    inbound = open("0.0.0.0", config["inbound.port"]);
  }
  return new Map([
    ["inbound", [inbound]],
    ["outbound", outbound],
  ]);
}

function listenFailure(address: string, port: number, error: unknown): CommandError {
  const { message } = error as Error;
  if (message.includes("EADDRINUSE"))
    return new CommandError(
      EXIT.configuration,
      `port ${port} on ${address} is taken`,
      "stop what listens there, or change inbound.port or outbound.port",
    );
  if (message.includes("EPERM") || message.includes("EACCES"))
    return new CommandError(
      EXIT.notPermitted,
      "a transparent listener needs CAP_NET_ADMIN",
      "start through systemd, or as root",
    );
  return new CommandError(EXIT.failure, `cannot listen on ${address} port ${port}: ${message}`);
}
