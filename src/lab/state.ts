import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Beside the record of the networks, not in it: those files are judged by another reader. */
export const LABS = "/run/mesh-agent-labs";

/** What a host of a lab is there for. */
export type HostRole = "control-plane" | "enroller" | "pod" | "vm" | "client";

/** One host, as `lab status` and `lab exec` need to know it. */
export interface HostState {
  readonly name: string;
  readonly role: HostRole;
  readonly ip: string;
  /** For `ip netns exec`. */
  readonly namespace: string;
  /** Control socket of its agent. */
  readonly socket?: string;
  /** What it is in the cluster: `shop/legacy-app-1a2b3c4d`. */
  readonly workload?: string;
}

/** A lab, as it describes itself to other processes. */
export interface LabState {
  readonly format: 1;
  readonly id: string;
  /** Of the process that holds it: when that ends, the lab is gone. */
  readonly pid: number;
  /** When that process started, in clock ticks since boot: tells it from a later one with the same number. */
  readonly started: string;
  /** False while it is being made. */
  readonly ready: boolean;
  readonly directory: string;
  readonly kubeconfig: string;
  readonly hosts: readonly HostState[];
}

export function labDirectory(id: string): string {
  return join(LABS, id);
}

export function writeState(state: LabState): void {
  const path = join(state.directory, "state.json");
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

/** Makes a lab's directory, empty. Agents with another uid must get through to their own parts of it. */
export function makeDirectory(id: string): string {
  runningLabs();
  const directory = labDirectory(id);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  writeState({
    format: 1,
    id,
    ...thisProcess(),
    ready: false,
    directory,
    kubeconfig: join(directory, "kubeconfig"),
    hosts: [],
  });
  return directory;
}

/** Who holds the labs that this process makes. */
export function thisProcess(): Pick<LabState, "pid" | "started"> {
  return { pid: process.pid, started: startedAt(process.pid) ?? "" };
}

/** Labs that are up; what dead ones left behind is removed. */
export function runningLabs(): readonly LabState[] {
  const labs: LabState[] = [];
  for (const id of entries(LABS)) {
    const state = readState(id);
    if (state === undefined) continue;
    if (!isRunning(state)) rmSync(labDirectory(id), { recursive: true, force: true });
    else if (state.ready) labs.push(state);
  }
  return labs;
}

function readState(id: string): LabState | undefined {
  try {
    const state: unknown = JSON.parse(readFileSync(join(labDirectory(id), "state.json"), "utf8"));
    return isState(state) ? state : undefined;
  } catch {
    // Still being made.
    return undefined;
  }
}

function isState(value: unknown): value is LabState {
  return typeof value === "object" && value !== null && "format" in value && value.format === 1;
}

/** Whether the process that holds a lab is alive. */
export function isRunning({ pid, started }: LabState): boolean {
  return startedAt(pid) === started;
}

function startedAt(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // proc(5): the second field is a name in parentheses and may hold any character; the start is field 22.
    const [state = "", ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? undefined : rest[18];
  } catch {
    return undefined;
  }
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
