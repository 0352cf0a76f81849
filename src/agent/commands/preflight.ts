import { existsSync } from "node:fs";
import { release } from "node:os";
import { type MissingFeature, missingKernelFeature, runProgram } from "../../bootstrap/interception/index.ts";
import type { Config } from "../config.ts";
import { CommandError, EXIT } from "../exit.ts";

/** What there is to ask a host before anything is changed on it. */
export interface HostProbes {
  readonly isRoot: () => boolean;
  readonly systemdRuns: () => boolean;
  /** What `PROGRAM --version` prints; undefined if there is no such program. */
  readonly version: (program: string) => Promise<string | undefined>;
  /** As `uname -r` says it. */
  readonly kernel: () => string;
  readonly missingKernelFeature: () => Promise<MissingFeature | undefined>;
  /** Rows of `ss --listening --tcp --numeric --processes`. */
  readonly listening: () => Promise<string>;
}

// Sockets with a name per unit, `Sockets=`, `OnSuccess=` and what else the units say.
const LEAST_SYSTEMD = 249;
const LEAST_NFT = [1, 0, 6] as const;
const LEAST_KERNEL = [5, 10] as const;

/** The machine that this program runs on. */
export const hostProbes: HostProbes = {
  isRoot: () => process.getuid?.() === 0,
  systemdRuns: () => existsSync("/run/systemd/system"),
  version: async (program) => {
    const { code, stdout } = await runProgram(program, ["--version"]);
    return code === 0 ? stdout : undefined;
  },
  kernel: release,
  missingKernelFeature: () => missingKernelFeature(runProgram),
  listening: async () =>
    (await runProgram("ss", ["--listening", "--tcp", "--numeric", "--processes", "--no-header"])).stdout,
};

/**
 * Finds out whether this host can be meshed. Nothing is changed.
 * @returns what was found, for the operator.
 * @throws CommandError: 64 a host that is too old or a port that is taken, 73 without what the rules need, 77 not root.
 */
export async function preflight(config: Config, host: HostProbes): Promise<string> {
  if (!host.isRoot()) throw new CommandError(EXIT.notPermitted, "up needs root", "sudo mesh-agent up …");
  if (!host.systemdRuns())
    throw new CommandError(
      EXIT.configuration,
      "systemd does not run this host",
      "run `mesh-agent run` under your own supervisor",
    );
  const systemd = /systemd (\d+)/.exec((await host.version("systemctl")) ?? "")?.[1];
  if (systemd !== undefined && Number(systemd) < LEAST_SYSTEMD)
    throw new CommandError(
      EXIT.configuration,
      `systemd ${systemd} is older than ${LEAST_SYSTEMD}`,
      "upgrade to a release with a newer systemd",
    );
  const kernel = numbers(host.kernel());
  if (kernel !== undefined && isBefore(kernel, LEAST_KERNEL))
    throw new CommandError(
      EXIT.configuration,
      `Linux ${host.kernel()} is older than ${LEAST_KERNEL.join(".")}`,
      "boot a newer kernel",
    );
  refuseTakenPorts(config, await host.listening());
  const said = await host.version("nft");
  if (said === undefined) throw new CommandError(EXIT.interception, "nft is not installed", "apt install nftables");
  const nft = numbers(said);
  if (nft !== undefined && isBefore(nft, LEAST_NFT))
    throw new CommandError(
      EXIT.interception,
      `nftables ${nft.join(".")} is older than ${LEAST_NFT.join(".")}`,
      "upgrade the package nftables",
    );
  const missing = await host.missingKernelFeature();
  if (missing !== undefined)
    throw new CommandError(
      EXIT.interception,
      `the kernel lacks ${missing.feature}`,
      `modprobe ${missing.module}, or boot a kernel that has it`,
    );
  if (config["identity.source"] !== "enroller")
    return `identity comes from ${config["identity.source"] === "files" ? "files" : "a SPIFFE Workload API"}: nothing to join`;
  return `Linux ${kernel?.join(".") ?? host.kernel()}, systemd ${systemd ?? "?"}, nftables ${nft?.join(".") ?? "?"}`;
}

// What a listener on such an address leaves to nobody else.
const WILDCARDS = ["*", "0.0.0.0", "[::]"];

/** Ours are held by systemd, before and while the agent runs; anybody else's would make the units fail one by one. */
function refuseTakenPorts(config: Config, rows: string): void {
  const admin = config["admin.address"];
  const wanted = [
    { key: "inbound.port", role: "inbound", port: config["inbound.port"], on: undefined },
    { key: "outbound.port", role: "outbound", port: config["outbound.port"], on: ["127.0.0.1", "[::1]"] },
    { key: "admin.address", role: "admin", port: admin.port, on: [admin.ip] },
  ];
  for (const row of rows.split("\n")) {
    const [, , , local = ""] = row.trim().split(/\s+/);
    const colon = local.lastIndexOf(":");
    const [ip, port] = [local.slice(0, colon), Number(local.slice(colon + 1))];
    const ours = wanted.find(
      (each) => each.port === port && (each.on === undefined || WILDCARDS.includes(ip) || each.on.includes(ip)),
    );
    const holders = [...row.matchAll(/\("([^"]+)",pid=(\d+)/g)];
    if (ours === undefined || holders.some(([, name]) => name === "systemd" || name === "mesh-agent")) continue;
    const [, name, pid] = holders[0] ?? [];
    throw new CommandError(
      EXIT.configuration,
      `port ${port} is taken${name === undefined ? "" : ` by ${name} (process ${pid})`}`,
      `stop what listens there; or change ${ours.key}, and ListenStream= of mesh-agent-${ours.role}.socket with it`,
    );
  }
}

/** The first dotted number in a text. */
function numbers(text: string): readonly number[] | undefined {
  return /(\d+)\.(\d+)(?:\.(\d+))?/.exec(text)?.slice(1).filter(Boolean).map(Number);
}

function isBefore(found: readonly number[], least: readonly number[]): boolean {
  const at = least.findIndex((number, i) => (found[i] ?? 0) !== number);
  return at >= 0 && (found[at] ?? 0) < (least[at] ?? 0);
}
