import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

// USER_HZ, the unit of CPU times in /proc, is 100 on every architecture that Node runs on.
const TICKS_PER_SECOND = 100;
const START_LIMIT_MS = 60_000;

const running = new Set<ChildProcess>();

/** A process that serves until it is stopped. */
export interface Service {
  readonly pid: number;
}

/** Starts a process and waits until it accepts on `port`. Its errors go to ours. */
export async function startService(command: readonly string[], port: number): Promise<Service> {
  const [file, ...args] = command as [string, ...string[]];
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const deadline = performance.now() + START_LIMIT_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`${file} ended with ${child.exitCode} before it accepted`);
    if (performance.now() > deadline) throw new Error(`${file} does not accept on port ${port}`);
    await sleep(50);
  }
  if (child.pid === undefined) throw new Error(`${file} did not start`);
  return { pid: child.pid };
}

/** Ends everything that {@link startService} started. */
export function stopServices(): void {
  for (const child of running) child.kill("SIGTERM");
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** Runs a program to its end and returns what it printed. */
export async function run(command: readonly string[]): Promise<string> {
  const [file, ...args] = command as [string, ...string[]];
  return (await promisify(execFile)(file, args, { maxBuffer: 1 << 24 })).stdout;
}

/** Runs one of the scripts beside this file in a process of its own and returns the JSON that it printed. */
export async function runScript<Result>(name: string, options: object): Promise<Result> {
  const script = `${import.meta.dirname}/${name}.ts`;
  return JSON.parse(await run([process.execPath, script, JSON.stringify(options)])) as Result;
}

/** User and system CPU time of a process with all its threads, seconds, in steps of 10 ms: proc(5), `stat`. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory of a process, MB of 2^20 bytes. */
export function rssMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024;
}

/** A port that nobody listens on right now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
