/**
 * Network namespaces as hosts: a bridge in a namespace of its own, one namespace per host, IPv4 and IPv6.
 *
 * Everything made here carries the network's id in its name (`ma-<id>-…`), and a record in {@link RECORDS} says which
 * process made it, so that whoever dies without tidying up is tidied up after by the next {@link Network.create}.
 * Nothing without such a record is ever touched. The root namespace gets one veth, its /30 and one route, all of which
 * vanish with the bridge's namespace. Needs root and iproute2.
 */
import { type ChildProcess, execFile, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { isIPv4 } from "node:net";

/** One file per claimed prefix; under /run, so that a reboot forgets records and namespaces together. */
const RECORDS = "/run/mesh-agent-lab";
/** `ip netns exec` lays the files of this directory's subdirectories over /etc for one namespace. */
const ETC = "/etc/netns";
// 10.77/16 … 10.99/16: outside the ranges that k3s, kubeadm, Docker and libvirt choose by default.
const FIRST_PREFIX = 77;
const LAST_PREFIX = 99;
// RFC 4193 space; the host's IPv4 address is written into the low 32 bits, so that the pair is easy to recognise.
const PREFIX6 = "fd6d:6100::";

/** How a network is made. */
export interface NetworkOptions {
  /** Lower-case letters and digits, at most 8; chosen at random if left out. */
  readonly id?: string;
  /** The first two octets of every host's address, such as `10.77`; the first free one if left out. */
  readonly prefix?: string;
  /** Whether the root namespace can reach the hosts, over one veth and one route. Default true. */
  readonly uplink?: boolean;
}

/** How a program is run on a host. */
export interface HostExecOptions {
  /** Runs as this uid and gid with no capabilities; root with all of them if left out. */
  readonly uid?: number;
  readonly gid?: number;
  readonly cwd?: string;
  /** Replaces the environment. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Kills the program after so many milliseconds. */
  readonly timeoutMs?: number;
}

/** What a program left behind. `code` is null if a signal ended it. */
export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Owner {
  readonly id: string;
  readonly prefix: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: tells a process from a later one with the same number. */
  readonly started: string;
}

/** A namespace that stands for one machine: its own loopback, addresses, routes and nftables. */
export class Host {
  readonly name: string;
  /** The namespace's name, for `ip netns exec`. */
  readonly namespace: string;
  readonly ip: string;
  readonly ip6: string;

  constructor(name: string, namespace: string, ip: string, ip6: string) {
    this.name = name;
    this.namespace = namespace;
    this.ip = ip;
    this.ip6 = ip6;
  }

  /** Runs a program to its end. A non-zero exit is an answer, not an error. */
  exec(command: string, args: readonly string[] = [], options: HostExecOptions & { readonly input?: string } = {}) {
    const [program, ...rest] = this.#line(command, args, options);
    return new Promise<Output>((resolve, reject) => {
      const child = execFile(
        program,
        rest,
        { cwd: options.cwd, env: options.env ?? process.env, timeout: options.timeoutMs ?? 0, maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          if (error !== null && typeof error.code === "string") reject(error);
          else resolve({ code: child.exitCode, stdout, stderr });
        },
      );
      child.stdin?.on("error", () => {}); // the program may end without reading what it was given
      child.stdin?.end(options.input ?? "");
    });
  }

  /** Starts a program; the child's pid is the program's own. It is killed when the host is removed. */
  spawn(command: string, args: readonly string[] = [], options: HostExecOptions & Pick<SpawnOptions, "stdio"> = {}) {
    const [program, ...rest] = this.#line(command, args, options);
    const child: ChildProcess = spawn(program, rest, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: options.stdio ?? "pipe",
    });
    if (options.timeoutMs !== undefined) {
      const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs);
      child.once("exit", () => clearTimeout(timer));
    }
    return child;
  }

  /** Gives the host a file of its own in /etc, such as `resolv.conf` or `machine-id`; seen by programs started later. */
  writeEtc(file: string, text: string): void {
    mkdirSync(`${ETC}/${this.namespace}`, { recursive: true });
    writeFileSync(`${ETC}/${this.namespace}/${file}`, text);
  }

  #line(command: string, args: readonly string[], options: HostExecOptions): [string, ...string[]] {
    const drop =
      options.uid === undefined
        ? []
        : [
            "setpriv",
            `--reuid=${options.uid}`,
            `--regid=${options.gid ?? options.uid}`,
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
          ];
    return ["ip", "netns", "exec", this.namespace, ...drop, command, ...args];
  }
}

/** A bridge and the hosts on it. */
export class Network {
  readonly id: string;
  /** First two octets of every address in it. */
  readonly prefix: string;
  /** The hosts' default gateway: the bridge. */
  readonly gateway: string;
  readonly gateway6: string;
  readonly hosts: ReadonlyMap<string, Host>;
  /** The namespace that holds the bridge: the place to drop, delay or capture what passes between hosts. */
  readonly bridgeNamespace: string;
  readonly #hosts = new Map<string, Host>();
  /** The bridge's end of each host's cable, by the host's name. */
  readonly #cables = new Map<string, string>();
  #ports = 0;
  #removed = false;

  private constructor(id: string, prefix: string) {
    this.id = id;
    this.prefix = prefix;
    this.gateway = this.address(0, 1);
    this.gateway6 = address6(this.gateway);
    this.hosts = this.#hosts;
    this.bridgeNamespace = `ma-${id}-bridge`;
  }

  /**
   * Makes an empty network, after removing those whose makers have died.
   * @throws Error without root, with a prefix in use, or when `ip` fails; nothing is left behind then.
   */
  static async create(options: NetworkOptions = {}): Promise<Network> {
    if (process.getuid?.() !== 0) throw new Error("network namespaces need root");
    const id = options.id ?? randomBytes(4).toString("hex");
    if (!/^[a-z0-9]{1,8}$/.test(id)) throw new Error(`network id must be 1 to 8 letters and digits: ${id}`);
    await Network.sweep();
    const network = new Network(id, await claim(id, options.prefix));
    alive.add(network);
    watchForDeath();
    try {
      await network.#build(options.uplink ?? true);
      return network;
    } catch (error) {
      await network.remove();
      throw error;
    }
  }

  /** Removes networks whose maker is no longer running. */
  static async sweep(): Promise<void> {
    for (const owner of owners()) {
      if (startedAt(owner.pid) !== owner.started) removeNow(owner.id, owner.prefix);
    }
  }

  /** An address in this network: `address(1, 10)` is `10.77.1.10` under the prefix `10.77`. */
  address(third: number, fourth: number): string {
    return `${this.prefix}.${third}.${fourth}`;
  }

  /**
   * Adds a host with loopback, one link (`eth0`), both addresses and default routes to the bridge.
   * @param ip - Inside the network's prefix; the IPv6 address is derived from it.
   * @throws Error if the name or the address is taken, or `ip` fails.
   */
  async addHost(name: string, ip: string): Promise<Host> {
    if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(name) || name === "bridge") throw new Error(`not a host name: ${name}`);
    if (this.#removed) throw new Error(`network ${this.id} is gone`);
    if (this.#hosts.has(name)) throw new Error(`host ${name} exists`);
    if (!isIPv4(ip) || !ip.startsWith(`${this.prefix}.`)) throw new Error(`${ip} is not in ${this.prefix}.0.0/16`);
    for (const other of this.#hosts.values()) if (other.ip === ip) throw new Error(`${ip} belongs to ${other.name}`);
    const host = new Host(name, `ma-${this.id}-${name}`, ip, address6(ip));
    this.#hosts.set(name, host);
    const port = `port${this.#ports++}`;
    addNamespace(host.namespace);
    await quietIPv6(host.namespace);
    await batch(this.bridgeNamespace, [
      `link add ${port} type veth peer name eth0 netns ${host.namespace}`,
      `link set ${port} master br0 up`,
    ]);
    this.#cables.set(name, port);
    await batch(host.namespace, [
      "link set lo up",
      "link set eth0 up",
      `addr add ${ip}/16 dev eth0`,
      `addr add ${host.ip6}/64 dev eth0 nodad`,
      `route add default via ${this.gateway}`,
      `route add ::/0 via ${this.gateway6}`,
    ]);
    return host;
  }

  /** Pulls a host's cable at the bridge: its link has no carrier, its addresses, routes and programs stay. */
  async unplug(name: string): Promise<void> {
    await this.#setCable(name, "down");
  }

  /** Undoes {@link unplug}. */
  async plug(name: string): Promise<void> {
    await this.#setCable(name, "up");
  }

  async #setCable(name: string, state: "up" | "down"): Promise<void> {
    const port = this.#cables.get(name);
    if (port === undefined) throw new Error(`there is no host ${name}`);
    await batch(this.bridgeNamespace, [`link set ${port} ${state}`]);
  }

  /** Removes one host with everything that runs on it. */
  async removeHost(name: string): Promise<void> {
    const host = this.#hosts.get(name);
    if (host === undefined) return;
    this.#hosts.delete(name);
    this.#cables.delete(name);
    removeNamespace(host.namespace);
  }

  /** Removes everything, running programs first. Harmless when repeated. */
  async remove(): Promise<void> {
    this.removeSync();
  }

  /** As {@link remove}, for an exit handler. */
  removeSync(): void {
    if (this.#removed) return;
    this.#removed = true;
    alive.delete(this);
    this.#hosts.clear();
    removeNow(this.id, this.prefix);
  }

  async #build(uplink: boolean): Promise<void> {
    addNamespace(this.bridgeNamespace);
    await quietIPv6(this.bridgeNamespace);
    await writeSysctl(this.bridgeNamespace, ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"], "1");
    await batch(this.bridgeNamespace, [
      "link set lo up",
      // Without snooping, or the bridge withholds neighbour solicitations until it has seen a querier.
      "link add br0 type bridge forward_delay 0 mcast_snooping 0",
      "link set br0 up",
      `addr add ${this.gateway}/16 dev br0`,
      `addr add ${this.gateway6}/64 dev br0 nodad`,
    ]);
    if (!uplink) return;
    // 198.18.0.0/15 is for testing networks (RFC 2544); one /30 per prefix.
    const second = this.prefix.split(".")[1];
    await runIp([
      "link",
      "add",
      `ma-${this.id}`,
      "type",
      "veth",
      "peer",
      "name",
      "uplink",
      "netns",
      this.bridgeNamespace,
    ]);
    await batch(undefined, [
      `addr add 198.18.${second}.1/30 dev ma-${this.id}`,
      `link set ma-${this.id} up`,
      `route add ${this.prefix}.0.0/16 via 198.18.${second}.2 dev ma-${this.id} onlink`,
    ]);
    await batch(this.bridgeNamespace, [`addr add 198.18.${second}.2/30 dev uplink`, "link set uplink up"]);
  }
}

const alive = new Set<Network>();
let watching = false;

/** A process that ends takes its networks along, however it ends short of SIGKILL (the next start sees to that). */
function watchForDeath(): void {
  if (watching) return;
  watching = true;
  const removeAll = () => {
    for (const network of [...alive]) network.removeSync();
  };
  process.on("exit", removeAll);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    const last = () => {
      // Somebody else handles this signal, and will come to `exit` in their own time.
      if (process.listenerCount(signal) > 1) return;
      removeAll();
      process.off(signal, last);
      process.kill(process.pid, signal);
    };
    process.on(signal, last);
  }
}

/** Takes a prefix that neither another network nor the root namespace uses. */
async function claim(id: string, wanted: string | undefined): Promise<string> {
  if (wanted !== undefined && !/^10\.\d{1,3}$/.test(wanted)) throw new Error(`prefix must look like 10.77: ${wanted}`);
  const candidates =
    wanted === undefined
      ? Array.from({ length: LAST_PREFIX - FIRST_PREFIX + 1 }, (_, index) => `10.${FIRST_PREFIX + index}`)
      : [wanted];
  mkdirSync(RECORDS, { recursive: true, mode: 0o700 });
  const owner = { id, pid: process.pid, started: startedAt(process.pid) ?? "" };
  if (owners().some((other) => other.id === id)) throw new Error(`network ${id} exists`);
  for (const prefix of candidates) {
    if (await isRouted(`${prefix}.0.0/16`)) continue;
    try {
      writeFileSync(recordOf(prefix), JSON.stringify({ ...owner, prefix } satisfies Owner), { flag: "wx" });
      return prefix;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  throw new Error(`no free address range for a network: ${candidates.join(", ")} are in use`);
}

async function isRouted(network: string): Promise<boolean> {
  const inside = await runIp(["-4", "route", "show", "root", network]);
  const around = await runIp(["-4", "route", "show", "match", network]);
  return inside !== "" || around.split("\n").some((line) => line !== "" && !line.startsWith("default"));
}

function recordOf(prefix: string): string {
  return `${RECORDS}/${prefix}.json`;
}

function owners(): Owner[] {
  const found: Owner[] = [];
  for (const file of list(RECORDS)) {
    try {
      found.push(JSON.parse(readFileSync(`${RECORDS}/${file}`, "utf8")) as Owner);
    } catch {
      // Being written or removed by another process at this moment: not ours to judge.
    }
  }
  return found;
}

function startedAt(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses and may hold anything, parentheses included.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

/** Synchronous, because it also runs while the process exits. */
function removeNow(id: string, prefix: string): void {
  for (const name of list("/run/netns")) if (name.startsWith(`ma-${id}-`)) removeNamespace(name);
  // Gone with its peer's namespace, unless that was never made; the kernel removes namespaces a moment late.
  tryIp(["link", "del", `ma-${id}`]);
  rmSync(recordOf(prefix), { force: true });
}

/** Synchronous, so that none is on its way into the world, past {@link removeNow}, when a signal ends the process. */
function addNamespace(namespace: string): void {
  execFileSync("ip", ["netns", "add", namespace], { stdio: ["ignore", "ignore", "pipe"] });
}

function removeNamespace(namespace: string): void {
  for (const pid of tryIp(["netns", "pids", namespace]).split("\n")) {
    if (pid !== "") {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        // ended by itself
      }
    }
  }
  tryIp(["netns", "del", namespace]);
  rmSync(`${ETC}/${namespace}`, { recursive: true, force: true });
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function tryIp(args: readonly string[]): string {
  try {
    return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}

function runIp(args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile("ip", args, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`ip ${args.join(" ")}: ${stderr.trim() || error.message}`));
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/** Several `ip` commands in one process. */
function batch(namespace: string | undefined, lines: readonly string[]): Promise<string> {
  return runIp([...(namespace === undefined ? [] : ["-n", namespace]), "-batch", "-"], `${lines.join("\n")}\n`);
}

/** No duplicate address detection, or an address is unusable for its first second; no router solicitations. */
function quietIPv6(namespace: string): Promise<string> {
  return writeSysctl(
    namespace,
    ["default/accept_dad", "all/accept_dad", "default/accept_ra", "default/router_solicitations"].map(
      (key) => `net/ipv6/conf/${key}`,
    ),
    "0",
  );
}

function writeSysctl(namespace: string, keys: readonly string[], value: string): Promise<string> {
  // A kernel without IPv6 has no such keys: the network is IPv4 only then, and `ip` says so.
  const script = keys.map((key) => `[ -e /proc/sys/${key} ] && echo ${value} > /proc/sys/${key}`).join("; ");
  return runIp(["netns", "exec", namespace, "sh", "-c", `${script}; true`]);
}

function address6(ip: string): string {
  return `${PREFIX6}${ip}`;
}
