import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type Choice, detect, type ResolverFacts, type Wiring } from "./detect.ts";
import { type ResolverFile, STUB } from "./model.ts";
import { withoutStub, withStub } from "./resolv-conf.ts";

/** Runs a program to its end. Never rejects; 127 if it does not exist. */
export type Run = (
  program: string,
  args: readonly string[],
) => Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;

/** The machine: its files below a root, its programs. */
export interface Host {
  /** `/`, or a test's folder. */
  readonly root: string;
  readonly run: Run;
}

/** A resolver did not take what it was told; names of the cluster may not be found, everything else is as it was. */
export class WiringError extends Error {
  override readonly name = "WiringError";
}

const RESOLV_CONF = "etc/resolv.conf";
const DROP_IN = "etc/NetworkManager/dnsmasq.d/mesh-agent.conf";
// systemd-resolved takes no servers for `lo`; a link counts for it only with an address that is not of the link alone.
// Nobody answers at this one, and nothing is ever sent there.
const LINK = "mesh-dns";
const LINK_PEER = "mesh-dns-peer";
const LINK_ADDRESS = "169.254.41.40/32";

// Files outlive a power cut, the agent that answers may not: while something of ours is in one, the next boot begins with
// taking it out. Wanted by this link and by nothing else, so that disabling the agent's units does not disable it.
const UNDO = "mesh-agent-names-undo.service";
const UNDO_WANTED = `etc/systemd/system/sysinit.target.wants/${UNDO}`;
const UNIT_FOLDERS = ["usr/lib/systemd/system", "lib/systemd/system"];

/** Reads what {@link detect} decides upon. */
export async function readFacts({ root, run }: Host): Promise<ResolverFacts> {
  const active = async (unit: string) => (await run("systemctl", ["is-active", "--quiet", unit])).code === 0;
  const text = read(join(root, RESOLV_CONF));
  return {
    resolvConf: text === undefined ? undefined : withoutStub(text),
    resolvConfAt: text === undefined ? undefined : realpathSync(join(root, RESOLV_CONF)),
    nsswitch: read(join(root, "etc/nsswitch.conf")) ?? "",
    resolvedRuns: await active("systemd-resolved.service"),
    networkManagerRuns: await active("NetworkManager.service"),
    networkManager: networkManagerFiles(root),
  };
}

/**
 * Brings the host's resolver to what was asked for, and takes back what an earlier call did in another way. Harmless
 * when repeated.
 * @returns what was chosen and why.
 * @throws WiringError, with nothing of ours left in that resolver.
 */
export async function wire(file: ResolverFile, host: Host): Promise<Choice> {
  const facts = await readFacts(host);
  const choice: Choice =
    file.wiring === "auto" ? detect(facts) : { wiring: file.wiring, why: "dns.wiring of the configuration says so" };
  await unwire(host, choice.wiring);
  try {
    // First: what is written after it is undone after a power cut at any moment.
    if (choice.wiring === "dnsmasq" || choice.wiring === "resolv.conf") armUndo(host);
    if (choice.wiring === "resolved") await wireResolved(file.zone, host);
    if (choice.wiring === "dnsmasq") await wireDnsmasq(file.zone, host);
    if (choice.wiring === "resolv.conf") wireResolvConf(host);
  } catch (error) {
    await unwire(host);
    if (error instanceof WiringError) throw error;
    throw new WiringError((error as Error).message);
  }
  return choice;
}

/** Takes everything back, or everything but one. Harmless when repeated, and when nothing was done. */
export async function unwire(host: Host, except?: Wiring): Promise<void> {
  const placed = await inPlace(host);
  if (except !== "resolv.conf" && placed.includes("resolv.conf")) editResolvConf(host, withoutStub);
  if (except !== "dnsmasq" && placed.includes("dnsmasq")) {
    rmSync(join(host.root, DROP_IN), { force: true });
    await host.run("nmcli", ["general", "reload", "dns-full"]);
  }
  // With the link, systemd-resolved forgets what it was told of it.
  if (except !== "resolved" && placed.includes("resolved")) await host.run("ip", ["link", "delete", LINK]);
  if (except !== "dnsmasq" && except !== "resolv.conf") disarmUndo(host);
}

function armUndo({ root }: Host): void {
  const folder = UNIT_FOLDERS.find((path) => existsSync(join(root, path, UNDO)));
  const link = join(root, UNDO_WANTED);
  if (folder === undefined || existsSync(link)) return;
  mkdirSync(dirname(link), { recursive: true, mode: 0o755 });
  rmSync(link, { force: true });
  symlinkSync(`/${folder}/${UNDO}`, link);
}

function disarmUndo({ root }: Host): void {
  const link = join(root, UNDO_WANTED);
  rmSync(link, { force: true });
  try {
    rmdirSync(dirname(link));
  } catch {
    // Somebody else has something there, or there is no such folder.
  }
}

/** Which of our traces are there. */
export async function inPlace({ root, run }: Host): Promise<readonly Wiring[]> {
  const found: Wiring[] = [];
  const text = read(join(root, RESOLV_CONF));
  if (text !== undefined && withoutStub(text) !== text) found.push("resolv.conf");
  if (read(join(root, DROP_IN)) !== undefined) found.push("dnsmasq");
  if ((await run("ip", ["link", "show", LINK])).code === 0) found.push("resolved");
  return found;
}

async function wireResolved(zone: string, { run }: Host): Promise<void> {
  if ((await run("ip", ["link", "show", LINK])).code !== 0) {
    const { code } = await run("ip", ["link", "add", LINK, "type", "dummy"]);
    // A kernel built without dummy devices: one end of a cable does as well.
    if (code !== 0) await must(run, "ip", "link", "add", LINK, "type", "veth", "peer", "name", LINK_PEER);
  }
  if ((await run("ip", ["link", "show", LINK_PEER])).code === 0) await must(run, "ip", "link", "set", LINK_PEER, "up");
  // No link-local address of its own, and so no route either.
  await must(run, "ip", "link", "set", LINK, "addrgenmode", "none");
  await must(run, "ip", "address", "replace", LINK_ADDRESS, "dev", LINK, "scope", "global");
  await must(run, "ip", "link", "set", LINK, "up");
  await must(run, "resolvectl", "dns", LINK, STUB);
  // A routing domain: names beneath it come here and nowhere else; it is not searched.
  await must(run, "resolvectl", "domain", LINK, `~${zone}`);
  await must(run, "resolvectl", "default-route", LINK, "no");
  // The cluster's zone is not signed, and nobody else is on this link.
  await must(run, "resolvectl", "dnssec", LINK, "no");
  await must(run, "resolvectl", "dnsovertls", LINK, "no");
  await must(run, "resolvectl", "llmnr", LINK, "no");
  await must(run, "resolvectl", "mdns", LINK, "no");
}

async function wireDnsmasq(zone: string, { root, run }: Host): Promise<void> {
  const path = join(root, DROP_IN);
  const text = `# Names of the cluster, for as long as mesh-agent runs.\nserver=/${zone}/${STUB}\n`;
  if (read(path) === text) return;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode: 0o644 });
  chmodSync(path, 0o644);
  await must(run, "nmcli", "general", "reload", "dns-full");
}

function wireResolvConf(host: Host): void {
  if (!editResolvConf(host, withStub)) throw new WiringError("/etc/resolv.conf does not exist");
}

/** Links are followed and stay: who owns the file goes on writing where it always did. */
function editResolvConf({ root }: Host, edit: (text: string) => string): boolean {
  const text = read(join(root, RESOLV_CONF));
  if (text === undefined) return false;
  const next = edit(text);
  if (next === text) return true;
  const path = realpathSync(join(root, RESOLV_CONF));
  const { mode, uid, gid } = statSync(path);
  const temporary = `${path}.mesh-agent`;
  try {
    // Whole or not at all: programs read this file at any moment.
    rmSync(temporary, { force: true });
    writeFileSync(temporary, next, { encoding: "latin1", flag: "wx", mode: 0o600 });
    chownSync(temporary, uid, gid);
    chmodSync(temporary, mode & 0o7777);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    // Containers have the file itself mounted: it can be written, not replaced.
    if ((error as NodeJS.ErrnoException).code !== "EBUSY") throw error;
    writeFileSync(path, next, "latin1");
  }
  return true;
}

function networkManagerFiles(root: string): string[] {
  const folder = (path: string) => {
    try {
      return readdirSync(join(root, path))
        .filter((name) => name.endsWith(".conf"))
        .sort()
        .map((name) => join(root, path, name));
    } catch {
      return [];
    }
  };
  return [
    ...folder("usr/lib/NetworkManager/conf.d"),
    ...folder("run/NetworkManager/conf.d"),
    join(root, "etc/NetworkManager/NetworkManager.conf"),
    ...folder("etc/NetworkManager/conf.d"),
  ].flatMap((path) => read(path) ?? []);
}

async function must(run: Run, program: string, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(program, args);
  if (code !== 0) throw new WiringError(`${program} ${args.join(" ")}: ${stderr.trim() || `status ${code}`}`);
}

/** Latin-1, so that whatever bytes are in it come back as they were. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
