import { execFileSync } from "node:child_process";
import { Resolver } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { readLiveConnections } from "../../bootstrap/interception/index.ts";
import { nameservers, withoutStub } from "../../bootstrap/resolver/index.ts";
import type { Config } from "../config.ts";
import { CommandError, EXIT } from "../exit.ts";
import type { AgentStatus } from "../status.ts";
import { PATHS, SERVICE, SOCKETS } from "./units.ts";

/** How long the operator has to say that the host still works. */
export const CONFIRM_SECONDS = 120;

const TIMER = "mesh-agent-revert";
// The path unit first: it would bring the rules back. The agent last: its drain may take two minutes. Its sockets with it:
// a connection would start it again. Joined without a semicolon, which systemd-run of systemd 252 escapes wrongly.
const UNDO = [
  `systemctl disable --now ${PATHS.join(" ")}`,
  "/usr/bin/mesh-agent intercept remove",
  `systemctl disable --now ${SOCKETS.join(" ")} ${SERVICE}`,
].join(" || true && ");

/** What must be the same after the rules are in place. */
export interface HostState {
  readonly defaultRoutes: string;
  /** `local remote` of every SSH connection that others opened to this host. */
  readonly sessions: readonly string[];
  /** Those of the host's own name servers that answer. */
  readonly nameServers: readonly string[];
}

// Each of at most three; a server that is slower than this is no use to a program either.
const DNS_MS = 2_000;

export async function readHostState(config: Config): Promise<HostState> {
  const routes = (family: string) => output("ip", [family, "route", "show", "default"]);
  const sessions = readLiveConnections()
    .filter(({ incoming, local }) => incoming && config["interception.sshPorts"].includes(local.port))
    .map(({ local, remote }) => `${local.ip}:${local.port} ${remote.ip}:${remote.port}`);
  return { defaultRoutes: `${routes("-4")}${routes("-6")}`, sessions, nameServers: await answeringNameServers() };
}

/** Any answer is one: whether the name exists is not the question. */
async function answeringNameServers(): Promise<string[]> {
  let servers: readonly string[];
  try {
    servers = nameservers(withoutStub(readFileSync("/etc/resolv.conf", "latin1"))).slice(0, 3);
  } catch {
    return [];
  }
  const answers = await Promise.all(
    servers.map(async (server) => {
      const resolver = new Resolver({ timeout: DNS_MS, tries: 1 });
      try {
        resolver.setServers([server]);
        await resolver.resolveNs(".");
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? "";
        return ["ETIMEOUT", "ECONNREFUSED", "EINVAL", "EBADSTR", "ERR_INVALID_IP_ADDRESS"].includes(code)
          ? []
          : [server];
      }
      return [server];
    }),
  );
  return answers.flat();
}

/**
 * Lets systemd, not this process, undo the interception when the time is over: an operator whose session has just broken
 * can neither confirm nor revert.
 */
export function armRevert(): void {
  disarmRevert();
  execFileSync(
    "systemd-run",
    ["--quiet", "--collect", `--unit=${TIMER}`, `--on-active=${CONFIRM_SECONDS}`, "/bin/sh", "-c", UNDO],
    { stdio: ["ignore", "ignore", "pipe"], timeout: 20_000 },
  );
}

/** Whether an earlier attempt still waits to be undone. */
export function isRevertArmed(): boolean {
  return output("systemctl", ["is-active", `${TIMER}.timer`]).trim() === "active";
}

/** The host keeps what was applied. Harmless when nothing was armed. */
export function disarmRevert(): void {
  try {
    execFileSync("systemctl", ["stop", `${TIMER}.timer`], { stdio: "ignore", timeout: 20_000 });
  } catch {
    // It was never armed, or has done its work.
  }
}

/** Undoes at once, in the order of the timer. */
export function revertNow(): void {
  disarmRevert();
  execFileSync("/bin/sh", ["-c", UNDO], { stdio: "ignore", timeout: 150_000 });
}

/** Pure: what is worse than before; empty if nothing is. */
export function compareHostState(before: HostState, after: HostState, status: AgentStatus): string[] {
  const faults: string[] = [];
  if (before.defaultRoutes !== after.defaultRoutes) faults.push("the default route has changed");
  const open = new Set(after.sessions);
  // The one that ended because its user left is told apart by asking only whether all are gone.
  if (before.sessions.length > 0 && !before.sessions.some((session) => open.has(session)))
    faults.push("no SSH session that was open is open any more");
  if (before.nameServers.length > 0 && after.nameServers.length === 0)
    faults.push(`no name server answers any more: ${before.nameServers.join(", ")}`);
  if (!status.interception.v4 && !status.interception.v6)
    faults.push(`no connection comes to the agent: ${status.interception.why}`);
  if (status.registration?.attached === false) faults.push("the enroller cannot be reached");
  return faults;
}

/**
 * Keeps what was applied: at once with `yes`, otherwise when the operator types `keep` in time.
 * @throws CommandError (73) after the interception has been taken back.
 */
export async function confirm(faults: readonly string[], yes: boolean): Promise<string> {
  if (faults.length > 0) {
    revertNow();
    throw new CommandError(
      EXIT.interception,
      `undone, because ${faults.join("; ")}`,
      "mesh-agent intercept plan shows what would be captured; then mesh-agent up again",
    );
  }
  if (yes || !process.stdin.isTTY) {
    disarmRevert();
    return "self-test passed: kept";
  }
  if ((await answer()) !== "keep") {
    revertNow();
    throw new CommandError(EXIT.interception, "not confirmed: undone", "mesh-agent up again, and type keep");
  }
  disarmRevert();
  return "kept";
}

function answer(): Promise<string> {
  const lines = createInterface({ input: process.stdin });
  process.stdout.write(
    `\nSelf-test passed. Open a second session to this host, then type "keep" within ${CONFIRM_SECONDS} s; otherwise all is undone: `,
  );
  return new Promise((resolve) => {
    const limit = setTimeout(() => lines.close(), (CONFIRM_SECONDS - 5) * 1_000);
    let said = "";
    lines.once("line", (line) => {
      said = line.trim();
      lines.close();
    });
    lines.once("close", () => {
      clearTimeout(limit);
      resolve(said);
    });
  });
}

function output(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}
