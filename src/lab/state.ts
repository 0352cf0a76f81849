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
  const directory = labDirectory(id);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  return directory;
}

/** Labs whose process is alive; what dead ones left behind is removed. */
export function runningLabs(): readonly LabState[] {
  const labs: LabState[] = [];
  for (const id of entries(LABS)) {
    const state = readState(id);
    if (state === undefined) continue;
    if (isAlive(state.pid)) labs.push(state);
    else rmSync(labDirectory(id), { recursive: true, force: true });
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

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
