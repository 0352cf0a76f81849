import { type Dirent, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

const CGROUP_ROOT = "/sys/fs/cgroup";
// How long a unit that has just started may go uncaptured, beside the time that root needs to apply the rules.
const EVERY_MS = 1_000;
// Slices within slices; a service's own groups below that are not units.
const DEEPEST = 6;

/**
 * Notices that chosen units have started, stopped or started again. The kernel resolves a control group when a rule is
 * loaded and a unit gets a new one at every start, so the rules must be rendered again then. An operator who wants no gap
 * at all has the unit itself say `ExecStartPre=+/usr/bin/mesh-agent intercept apply`, or chooses a slice.
 */
export class UnitWatch {
  readonly #units: ReadonlySet<string>;
  readonly #root: string;
  readonly #changed: () => void;
  #seen: string;
  #timer: NodeJS.Timeout | undefined;

  /** @param root - Where the control groups are mounted; for tests. */
  constructor(units: readonly string[], changed: () => void, root = CGROUP_ROOT) {
    this.#units = new Set(units);
    this.#root = root;
    this.#changed = changed;
    this.#seen = this.#look();
  }

  start(): void {
    if (this.#units.size > 0) this.#timer ??= setInterval(() => this.check(), EVERY_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Looks now. */
  check(): void {
    const now = this.#look();
    if (now === this.#seen) return;
    this.#seen = now;
    this.#changed();
  }

  /** Path and inode of every chosen unit's group: a group that was made anew has another inode. */
  #look(): string {
    const found: string[] = [];
    this.#walk(this.#root, 0, found);
    return found.sort().join("\n");
  }

  #walk(directory: string, depth: number, found: string[]): void {
    for (const entry of list(directory)) {
      if (!entry.isDirectory()) continue;
      const path = join(directory, entry.name);
      if (this.#units.has(entry.name))
        found.push(`${path} ${statSync(path, { bigint: true, throwIfNoEntry: false })?.ino}`);
      else if (entry.name.endsWith(".slice") && depth < DEEPEST) this.#walk(path, depth + 1, found);
    }
  }
}

/** A group may go away while we look. */
function list(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}
