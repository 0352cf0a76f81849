import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startGrpcEcho, startHttpEcho, startTcpGreeter } from "../../lab/apps/index.ts";
import type { ControlPlaneOptions } from "../../lab/control-plane.ts";
import { serveControlPlane } from "../../lab/control-plane-process.ts";
import { plainEnvironment, selfCommand } from "../../lab/self.ts";
import { isRunning, type LabState, runningLabs } from "../../lab/state.ts";
import { until } from "../../lab/until.ts";
import { CommandError, EXIT } from "../exit.ts";
import { type Format, print, table } from "./output.ts";

export interface LabUpOptions {
  readonly foreground?: boolean;
  readonly join: boolean;
  readonly id: string;
  readonly supervise?: boolean;
}

const START_MS = 120_000;
const STOP_MS = 30_000;

/** `lab up`: holds the lab in this process, or starts one that does and waits for it. */
export async function up(options: LabUpOptions): Promise<void> {
  requireRoot();
  if (runningLabs().some((lab) => lab.id === options.id)) {
    throw new CommandError(EXIT.failure, `the lab ${options.id} runs already`, "mesh-agent lab down");
  }
  if (options.foreground || options.supervise) await hold(options);
  else await detach(options);
}

async function hold(options: LabUpOptions): Promise<void> {
  const { bringUp } = await import("../../lab/sample.ts");
  const say = (step: string) => process.stdout.write(`${step} …\n`);
  const stopping = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stopping.abort());
  const lab = await bringUp({ id: options.id, join: options.join, progress: say, signal: stopping.signal });
  if (!stopping.signal.aborted) {
    lab.publish();
    if (options.foreground) {
      process.stdout.write(`${summary(lab.state)}\nCtrl-C takes it down.\n`);
    }
    await once(stopping.signal, "abort");
  }
  say("taking the lab down");
  await lab.stop();
  process.exit(EXIT.ok);
}

/** Starts the holder in a session of its own and relays what it says until the lab is up. */
async function detach(options: LabUpOptions): Promise<void> {
  const log = join(tmpdir(), `mesh-agent-lab-${process.pid}.log`);
  const output = openSync(log, "wx", 0o600);
  const args = ["lab", "up", "--supervise", "--id", options.id, ...(options.join ? [] : ["--no-join"])];
  const [program, ...rest] = selfCommand(...args);
  const child = spawn(program, rest, { detached: true, stdio: ["ignore", output, output], env: plainEnvironment() });
  let shown = 0;
  const relay = () => {
    const text = readFileSync(log, "utf8");
    process.stdout.write(text.slice(shown));
    shown = text.length;
  };
  const lab = await until(() => {
    relay();
    if (child.exitCode !== null) return "dead";
    return runningLabs().find((other) => other.id === options.id);
  }, START_MS);
  rmSync(log, { force: true });
  if (lab === undefined || lab === "dead") {
    child.kill("SIGTERM");
    throw new CommandError(EXIT.failure, "the lab did not come up", "the lines above say why");
  }
  child.unref();
  process.stdout.write(`\n${summary(lab)}\n`);
}

export async function status(format: Format): Promise<void> {
  const labs = runningLabs();
  print(format, labs, () =>
    labs.length === 0 ? "No lab is running: mesh-agent lab up\n" : `${labs.map(summary).join("\n")}\n`,
  );
}

function summary(lab: LabState): string {
  const rows = lab.hosts.map(({ name, role, ip, workload }) => [name, role, ip, workload ?? ""]);
  return [
    `Lab ${lab.id}`,
    "",
    table([["HOST", "ROLE", "ADDRESS", "WORKLOAD"], ...rows]),
    "",
    `  export KUBECONFIG=${lab.kubeconfig}`,
    "  kubectl get externalworkloads -A",
    "  mesh-agent lab exec vm-1 -- curl -s http://web.shop.svc.cluster.local",
    "  mesh-agent lab exec web -- curl -s http://legacy-app.shop.svc.cluster.local",
    ...lab.hosts
      .filter(({ role, socket }) => role === "vm" && socket !== undefined)
      .map(({ socket }) => `  mesh-agent tap --socket ${socket}`),
    "  mesh-agent lab down",
    "",
  ].join("\n");
}

/** `lab exec`: the program gets this terminal, and its exit status becomes ours. */
export async function exec(hostName: string, command: readonly string[], id: string | undefined): Promise<void> {
  requireRoot();
  const lab = theLab(id);
  const host = lab.hosts.find(({ name }) => name === hostName);
  if (host === undefined) {
    const names = lab.hosts.map(({ name }) => name).join(", ");
    throw new CommandError(EXIT.usage, `the lab has no host ${hostName}`, `it has ${names}`);
  }
  const [program = "", ...args] = command[0] === "--" ? command.slice(1) : command;
  const child = spawn("ip", ["netns", "exec", host.namespace, program, ...args], { stdio: "inherit" });
  process.on("SIGINT", () => {});
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  process.exit(code ?? (signal === null ? EXIT.failure : 128));
}

export function showKubeconfig(id: string | undefined): void {
  process.stdout.write(`${theLab(id).kubeconfig}\n`);
}

export async function down(id: string | undefined): Promise<void> {
  requireRoot();
  const lab = theLab(id);
  process.kill(lab.pid, "SIGTERM");
  const gone = await until(() => !isRunning(lab), STOP_MS);
  if (!gone)
    throw new CommandError(EXIT.tryAgain, `the lab ${lab.id} takes long to stop`, `look at process ${lab.pid}`);
  process.stdout.write(`The lab ${lab.id} is gone.\n`);
}

export async function app(wanted: readonly string[], options: { host: string; name: string }): Promise<void> {
  const kinds = { http: startHttpEcho, tcp: startTcpGreeter, grpc: startGrpcEcho };
  for (const text of wanted) {
    const [, kind, port] = /^(http|tcp|grpc)=(\d{1,5})$/.exec(text) ?? [];
    if (kind === undefined) throw new CommandError(EXIT.usage, `${text} is no sample application`, "such as http=8080");
    const started = await kinds[kind as keyof typeof kinds]({ ...options, port: Number(port) });
    process.stdout.write(`${options.name} (${kind}) listens on port ${started.port}\n`);
  }
}

export async function controlPlane(options: string): Promise<void> {
  await serveControlPlane(JSON.parse(options) as ControlPlaneOptions);
}

function theLab(id: string | undefined): LabState {
  const labs = runningLabs().filter((lab) => id === undefined || lab.id === id);
  const [lab] = labs;
  if (lab === undefined) throw new CommandError(EXIT.unreachable, "no such lab is running", "mesh-agent lab up");
  if (labs.length > 1)
    throw new CommandError(EXIT.usage, "several labs are running", `--id ${labs.map((other) => other.id).join("|")}`);
  return lab;
}

function requireRoot(): void {
  if (process.geteuid?.() !== 0) {
    throw new CommandError(
      EXIT.notPermitted,
      "the lab makes network namespaces, which needs root",
      "run this command with sudo",
    );
  }
}
