import { execFileSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join as joinPath } from "node:path";
import { decodeJoinString } from "../../bootstrap/control/index.ts";
import { runProgram, tableExists } from "../../bootstrap/interception/index.ts";
import { type Config, loadConfig } from "../config.ts";
import { CommandError, EXIT } from "../exit.ts";
import { asCommandError } from "../membership.ts";
import type { AgentStatus } from "../status.ts";
import { ask } from "./control-client.ts";
import { namesInPlace } from "./names-actions.ts";
import type { Format } from "./output.ts";
import { hostProbes, preflight } from "./preflight.ts";
import { Steps } from "./steps.ts";
import { SERVICE, SOCKETS } from "./units.ts";
import { armRevert, compareHostState, confirm, disarmRevert, isRevertArmed, readHostState } from "./up-confirm.ts";

export interface UpOptions {
  readonly join: string | undefined;
  readonly config?: string;
  readonly socket: string;
  /** Seconds. */
  readonly timeout: number;
  readonly output: Format;
  /** Keep what was applied without asking, if the self-test passes. */
  readonly yes: boolean;
}

const POLL_MS = 500;
/** How the enroller words `approval-pending`. */
const AWAITS_APPROVAL = "waits for the approval";
// The path unit, nft and the next self-probe.
const INTERCEPTED_MS = 15_000;

/**
 * From a join string to a registered host: each step says what it found, and nothing is changed before what can be
 * checked was checked. Harmless when repeated.
 * @throws CommandError of the step that failed, with its remedy.
 */
export async function up(options: UpOptions): Promise<void> {
  const steps = new Steps(options.output, (name, result) => `${name.padEnd(14)} ${result}`);
  await steps.run(() => meshed(options, steps));
}

async function meshed(options: UpOptions, steps: Steps): Promise<void> {
  steps.begin("configuration");
  const config = loadConfig(options.config);
  steps.begin("preflight");
  steps.say(await preflight(config, hostProbes));
  steps.begin("join string");
  steps.say(storeJoinString(config, options.join));
  const before = await readHostState(config);
  steps.begin("service");
  // Only while nothing of ours is in place yet: a host that is meshed already has nothing to confirm.
  const fresh = isRevertArmed() || !(await tableExists(runProgram));
  if (fresh) armRevert();
  steps.say(startService(options.join !== undefined));
  steps.begin("identity");
  const status = await waitReady(options, (result) => {
    if (options.output === "text" && process.stdout.isTTY)
      process.stdout.write(`${"waiting".padEnd(14)} ${result}\u001b[K\r`);
  });
  steps.say(status.identity?.name ?? "none");
  if (status.identityProblem !== undefined) {
    steps.begin("problem");
    steps.say(status.identityProblem);
  }
  steps.begin("registration");
  steps.say(
    `${status.workload?.namespace}/${status.workload?.name} is ${status.registration?.ready === true ? "Ready" : "registered"}`,
  );
  steps.begin("names");
  steps.say(`by ${(await namesInPlace()) ?? "nothing of ours: mesh-agent names plan"}`);
  steps.begin("interception");
  const settled = fresh ? await intercepted(options, status) : status;
  const { v4, v6, why } = settled.interception;
  steps.say(
    v4 || v6
      ? `works for ${[v4 ? "IPv4" : "", v6 ? "IPv6" : ""].filter((s) => s !== "").join(" and ")}`
      : `not in place: ${why}`,
  );
  steps.begin("confirmation");
  if (fresh) {
    const faults = compareHostState(before, await readHostState(config), settled);
    steps.say(await confirm(faults, options.yes || options.output === "json"));
  } else steps.say("not needed: the rules were in place before");
  steps.add({ status });
  if (options.output === "text")
    process.stdout.write(
      "\nmesh-agent status shows this host; mesh-agent tap shows its requests; mesh-agent down leaves.\n",
    );
}

function storeJoinString(config: Config, join: string | undefined): string {
  if (config["identity.source"] !== "enroller") return "not needed";
  const file = config["identity.joinFile"];
  if (join === undefined) {
    if (existsSync(file)) return `found in ${file}`;
    if (existsSync(joinPath(config["state.directory"], "membership.json")))
      return "not needed: this host has joined already";
    throw new CommandError(
      EXIT.joinString,
      "no join string was given",
      "mesh-agent up mj1.… (an admin prints one with mesh-agent invite)",
    );
  }
  try {
    decodeJoinString(join.trim());
  } catch (error) {
    throw asCommandError(error);
  }
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  writeFileSync(file, `${join.trim()}\n`, { mode: 0o600 });
  // The agent, not root, reads and removes it: both need its directory's owner to agree.
  const owner = ownerOf(config["state.directory"]);
  if (owner !== undefined) chownSync(file, owner.uid, owner.gid);
  return "checked";
}

function ownerOf(path: string): { uid: number; gid: number } | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && { uid: stat.uid, gid: stat.gid };
}

/** @param afresh - There is a new join string: an agent that runs already must start again to see it. */
function startService(afresh: boolean): string {
  const systemctl = (...args: readonly string[]) =>
    execFileSync("systemctl", args, { stdio: ["ignore", "pipe", "pipe"], timeout: 150_000 });
  try {
    systemctl("enable", SERVICE);
    systemctl(afresh ? "restart" : "start", SERVICE);
    return afresh ? "enabled and started afresh" : "enabled and started";
  } catch (error) {
    throw startFailure(String((error as { stderr?: Buffer }).stderr ?? ""));
  }
}

/** The agent's own last word and status where there are such; else the socket that failed, or what systemctl said. */
function startFailure(stderr: string): CommandError {
  const socket = SOCKETS.find((unit) => isFailed(unit));
  const said = query("journalctl", ["-u", SERVICE, "-n", "20", "-o", "cat", "--no-pager", "-r"])
    .split("\n")
    .find((line) => line.startsWith("mesh-agent: "));
  const status = Number(query("systemctl", ["show", "-p", "ExecMainStatus", "--value", SERVICE]));
  const known = Object.values(EXIT).find((code) => code === status && code !== EXIT.ok);
  if (socket === undefined && said !== undefined && known !== undefined) {
    const [cause = "", remedy] = said.slice("mesh-agent: ".length).split(" — ");
    return new CommandError(known, cause, remedy);
  }
  return new CommandError(
    EXIT.failure,
    `${SERVICE} did not start: ${socket === undefined ? (stderr.trim().split("\n").at(-1) ?? "") : `${socket} failed`}`,
    `journalctl -u ${socket ?? SERVICE} -n 20 tells why`,
  );
}

function query(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], timeout: 20_000 });
  } catch {
    return "";
  }
}

function isFailed(unit: string): boolean {
  return query("systemctl", ["show", "-p", "ActiveState", "--value", unit]).trim() === "failed";
}

async function waitReady(options: UpOptions, progress: (result: string) => void): Promise<AgentStatus> {
  const until = Date.now() + options.timeout * 1_000;
  let last = "the agent has not answered yet";
  while (Date.now() < until) {
    try {
      const status = await ask<AgentStatus>(options.socket, "GET", "/status");
      last = describe(status);
      if (status.state === "ready" && (status.registration === undefined || status.registration.ready)) return status;
    } catch (error) {
      if (!(error instanceof CommandError) || error.exitCode !== EXIT.unreachable) throw error;
    }
    progress(last);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  if (last.includes(AWAITS_APPROVAL)) {
    // Nothing is intercepted yet, and undoing would end the waiting.
    disarmRevert();
    throw new CommandError(
      EXIT.tryAgain,
      `after ${options.timeout} s ${last}`,
      "the agent goes on waiting: mesh-agent up again once it is approved (mesh-agent cluster approve)",
    );
  }
  throw new CommandError(
    EXIT.tryAgain,
    `not ready after ${options.timeout} s: ${last}`,
    `journalctl -u ${SERVICE} -n 20 tells why`,
  );
}

/** Waits for the first probe through the rules: root applies them a moment after the agent is ready. */
async function intercepted(options: UpOptions, status: AgentStatus): Promise<AgentStatus> {
  let latest = status;
  const until = Date.now() + INTERCEPTED_MS;
  while (!latest.interception.v4 && !latest.interception.v6 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    latest = await ask<AgentStatus>(options.socket, "GET", "/status");
  }
  return latest;
}

function describe(status: AgentStatus): string {
  const { registration } = status;
  if (status.identityProblem !== undefined) return status.identityProblem;
  if (status.state !== "ready") return status.state;
  if (registration === undefined) return "ready";
  return registration.attached ? `registered, not Ready: ${registration.why}` : "not attached to the enroller";
}
