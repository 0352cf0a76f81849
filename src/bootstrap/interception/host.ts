import { readdirSync, readFileSync, statSync } from "node:fs";
import { formatIp } from "../../proxy/core/address.ts";
import type { InterceptionOptions } from "./model.ts";
import type { HostFacts } from "./ruleset.ts";
import type { Run } from "./run.ts";

const CGROUP_ROOT = "/sys/fs/cgroup";

/** Reads what the plan needs to know of this host: which families are on, and where the named units' cgroups are. */
export async function readHostFacts(options: InterceptionOptions, run: Run): Promise<HostFacts> {
  const { selection } = options.outbound;
  const units = [
    ...(options.agent.unit === undefined ? [] : [options.agent.unit]),
    ...(selection.by === "unit" ? selection.units : []),
  ];
  const cgroups = new Map<string, string>();
  for (const unit of units) {
    const path = await cgroupOf(unit, run);
    if (path !== undefined) cgroups.set(unit, path);
  }
  return { families: hasIPv6() ? [4, 6] : [4], cgroups, ssh: await readSsh(run), filteredBridges: filteredBridges() };
}

/** Switched on for all, or for one bridge alone; neither is there without the module br_netfilter. */
function filteredBridges(): string[] {
  const names = ["iptables", "ip6tables"];
  const all = names.some((name) => read(`/proc/sys/net/bridge/bridge-nf-call-${name}`)?.trim() === "1");
  return list("/sys/class/net")
    .filter((device) => isDirectory(`/sys/class/net/${device}/bridge`))
    .filter(
      (bridge) => all || names.some((name) => read(`/sys/class/net/${bridge}/bridge/nf_call_${name}`)?.trim() === "1"),
    )
    .sort();
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

// Of OpenSSH and Dropbear, as the distributions call them; `ssh@…` are those that a socket unit starts.
const SSH_UNIT = /^(?:ssh|sshd|openssh-server|dropbear)(?:@.*)?\.(?:service|socket)$/;
const SSH_PROCESS = /\(\("(?:sshd|sshd-session|dropbear)"/;
const SSH_SERVICES = ["ssh.service", "sshd.service", "dropbear.service"];
const SSH_SOCKETS = ["ssh.socket", "sshd.socket", "dropbear.socket"];

/**
 * Finds SSH daemons by what holds a listening socket: its process, as far as this process may see it, or the unit in whose
 * control group it was opened; and by the socket units that start one. A port in the options alone would lock out whoever
 * moved the daemon and forgot to say so here.
 */
async function readSsh(run: Run): Promise<HostFacts["ssh"]> {
  const ports = new Set<number>();
  const { stdout } = await run("ss", ["--listening", "--tcp", "--numeric", "--no-header", "--processes", "--cgroup"]);
  for (const line of stdout.split("\n")) {
    const port = parseSshListener(line);
    if (port !== undefined) ports.add(port);
  }
  const sockets = await run("systemctl", ["show", "--property=Listen", "--value", "--", ...SSH_SOCKETS]);
  if (sockets.code === 0) for (const [, port] of sockets.stdout.matchAll(/:(\d+) \(Stream\)/g)) ports.add(Number(port));
  const cgroups: string[] = [];
  for (const unit of SSH_SERVICES) {
    const path = await cgroupOf(unit, run);
    if (path !== undefined) cgroups.push(path);
  }
  return { ports: [...ports].sort((a, b) => a - b), cgroups };
}

/** One line of `ss --listening --processes --cgroup`: the port if an SSH daemon holds it. */
export function parseSshListener(line: string): number | undefined {
  const [state, , , local] = line.trim().split(/\s+/);
  if (state !== "LISTEN" || local === undefined) return undefined;
  const group = /\bcgroup:(\S+)/.exec(line)?.[1]?.split("/") ?? [];
  if (!SSH_PROCESS.test(line) && !group.some((part) => SSH_UNIT.test(part))) return undefined;
  const port = Number(local.slice(local.lastIndexOf(":") + 1));
  return Number.isInteger(port) && port > 0 ? port : undefined;
}

/** IPv6 may be compiled out, or switched off for all devices or for loopback alone; each leaves its rules useless. */
function hasIPv6(): boolean {
  return ["all", "lo"].every((device) => read(`/proc/sys/net/ipv6/conf/${device}/disable_ipv6`)?.trim() === "0");
}

async function cgroupOf(unit: string, run: Run): Promise<string | undefined> {
  const { code, stdout } = await run("systemctl", ["show", "--property=ControlGroup", "--value", "--", unit]);
  const path = stdout.trim().replace(/^\//, "");
  // systemd escapes unit names; whatever else it might say must not end a quoted string in the ruleset.
  if (code !== 0 || !/^[A-Za-z0-9:_.@/\\-]+$/.test(path)) return undefined;
  // Only the unified hierarchy has what the kernel matches; on a hybrid one the directory is elsewhere.
  return isDirectory(`${CGROUP_ROOT}/${path}`) && read(`${CGROUP_ROOT}/cgroup.controllers`) !== undefined
    ? path
    : undefined;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** A TCP connection as the kernel lists it. */
export interface LiveConnection {
  readonly local: { readonly ip: string; readonly port: number };
  readonly remote: { readonly ip: string; readonly port: number };
  readonly uid: number;
  /** Whether this host accepted it: its local port is one that something here listens on. */
  readonly incoming: boolean;
}

/** Reads the established TCP connections of this network namespace. */
export function readLiveConnections(): LiveConnection[] {
  const rows = ["tcp", "tcp6"].flatMap((name) =>
    (read(`/proc/net/${name}`) ?? "").split("\n").slice(1).flatMap(parseRow),
  );
  const listening = new Set(rows.filter((row) => row.state === "0A").map((row) => row.local.port));
  return rows
    .filter((row) => row.state === "01")
    .map(({ local, remote, uid }) => ({ local, remote, uid, incoming: listening.has(local.port) }));
}

/** One line of /proc/net/tcp: `sl local remote state queues timer retransmits uid …`, addresses in host-order hex words. */
export function parseRow(line: string) {
  const [, local, remote, state, , , , uid] = line.trim().split(/\s+/);
  if (local === undefined || remote === undefined || state === undefined || uid === undefined) return [];
  return [{ local: parseEnd(local), remote: parseEnd(remote), state, uid: Number(uid) }];
}

function parseEnd(text: string): { ip: string; port: number } {
  const [hex = "", port = ""] = text.split(":");
  const bytes = Buffer.from(hex, "hex");
  // Each 32-bit word is printed in host order, which is little-endian on every architecture we build for.
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  return { ip: formatBytes(bytes), port: Number.parseInt(port, 16) };
}

function formatBytes(bytes: Buffer): string {
  const mapped = bytes.length === 16 && bytes.subarray(0, 12).toString("hex") === "00000000000000000000ffff";
  if (mapped || bytes.length === 4) return [...bytes.subarray(-4)].join(".");
  return formatIp({ version: 6, words: [0, 4, 8, 12].map((at) => bytes.readUInt32BE(at)) });
}
