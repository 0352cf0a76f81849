import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const V1 = "/sys/fs/cgroup/memory";
const V2 = "/sys/fs/cgroup";

/**
 * A memory limit for processes of a container, set from outside of it: what `MemoryMax=` of a unit does on a real host has
 * no effect inside a container on machines with the old hierarchy.
 */
export class MemoryGroup {
  readonly #path: string;
  readonly #limit: string;
  readonly #parent: string;

  constructor(name: string) {
    const old = existsSync(join(V1, "memory.limit_in_bytes"));
    this.#parent = old ? V1 : V2;
    this.#path = join(this.#parent, name);
    this.#limit = old ? "memory.limit_in_bytes" : "memory.max";
    mkdirSync(this.#path);
  }

  /** What is charged from now on counts, and no more than that is given: beyond it the kernel kills. */
  hold(pid: number, bytes: number): void {
    writeFileSync(join(this.#path, this.#limit), String(bytes));
    writeFileSync(join(this.#path, "cgroup.procs"), String(pid));
  }

  /** Only when no process is in it any more. */
  remove(): void {
    for (const pid of readFileSync(join(this.#path, "cgroup.procs"), "utf8").split("\n"))
      if (pid !== "") writeFileSync(join(this.#parent, "cgroup.procs"), pid);
    rmdirSync(this.#path);
  }
}

/** The process id outside of a container, of one that is `inner` inside its process namespace. */
export function outerPid(leader: number, inner: number): number {
  const space = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/status`, "utf8");
    } catch {
      return "";
    }
  };
  const depth = namespacePids(space(String(leader))).length;
  const found = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .find((pid) => {
      const pids = namespacePids(space(pid));
      return pids.length === depth && pids.at(-1) === inner && isBelow(pid, leader);
    });
  if (found === undefined) throw new Error(`no process ${inner} in the container of ${leader}`);
  return Number(found);
}

function namespacePids(status: string): readonly number[] {
  return /^NSpid:\s*(.*)$/m.exec(status)?.[1]?.split(/\s+/).map(Number) ?? [];
}

/** Whether the leader is an ancestor: another container may have a process of the same number. */
function isBelow(pid: string, leader: number): boolean {
  for (let at = Number(pid); at > 1; ) {
    if (at === leader) return true;
    try {
      at = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${at}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      return false;
    }
  }
  return false;
}
