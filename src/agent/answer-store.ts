import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "../proxy/core/log.ts";
import type { AnswerStore } from "../proxy/discovery/index.ts";

/**
 * The last answers of discovery, one file each. Not secret and not synced: losing one costs a question. A full disk
 * costs nothing but the memory of a restart.
 */
export function openAnswerStore(directory: string, log: Logger): AnswerStore {
  const files = new Map<string, string>();
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory)) {
      const key = name.endsWith(".json") ? keyIn(join(directory, name)) : undefined;
      if (key !== undefined) files.set(key, name);
    }
  } catch (error) {
    log.warn("stored discovery cannot be read", { why: (error as Error).message });
  }
  const nameOf = (key: string) => `${createHash("sha256").update(key).digest("hex").slice(0, 32)}.json`;
  return {
    load(key) {
      const name = files.get(key);
      if (name === undefined) return undefined;
      try {
        return (JSON.parse(readFileSync(join(directory, name), "utf8")) as { value: string }).value;
      } catch {
        return undefined;
      }
    },
    save(key, value) {
      const name = nameOf(key);
      const target = join(directory, name);
      try {
        writeFileSync(`${target}.tmp`, JSON.stringify({ key, value }), { mode: 0o600 });
        renameSync(`${target}.tmp`, target);
        files.set(key, name);
      } catch (error) {
        discard(`${target}.tmp`);
        log.warn("an answer of discovery could not be stored", { why: (error as Error).message });
      }
    },
    remove(key) {
      const name = files.get(key);
      files.delete(key);
      if (name !== undefined) discard(join(directory, name));
    },
    keys: () => [...files.keys()],
  };
}

function discard(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Read-only now: it ages out.
  }
}

function keyIn(file: string): string | undefined {
  try {
    const { key } = JSON.parse(readFileSync(file, "utf8")) as { key?: unknown };
    return typeof key === "string" ? key : undefined;
  } catch {
    return undefined;
  }
}
