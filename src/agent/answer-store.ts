import { createHash } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
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
    save(key) {
      const name = nameOf(key);
      const target = join(directory, name);
      const temporary = `${target}.tmp`;
      let fd: number | undefined;
      // A full disk, or one that is read-only: what was there stays there.
      const attempt = (act: () => void) => {
        try {
          act();
        } catch (error) {
          log.warn("an answer of discovery could not be stored", { why: (error as Error).message });
          close();
          discard(temporary);
        }
      };
      const close = () => {
        const open = fd;
        fd = undefined;
        if (open !== undefined) closeSync(open);
      };
      attempt(() => {
        fd = openSync(temporary, "w", 0o600);
        writeSync(fd, `{"key":${JSON.stringify(key)},"value":"`);
      });
      return {
        append: (text) =>
          attempt(() => {
            // The inside of a JSON text, escaped piece by piece.
            if (fd !== undefined) writeSync(fd, JSON.stringify(text).slice(1, -1));
          }),
        finish: () =>
          attempt(() => {
            if (fd === undefined) return;
            writeSync(fd, '"}');
            close();
            renameSync(temporary, target);
            files.set(key, name);
          }),
        abandon() {
          close();
          discard(temporary);
        },
      };
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

// Keys are names and addresses.
const MAX_KEY_BYTES = 1_024;

/** Reads the key alone: of the answers that nobody asks for nothing more is needed. */
function keyIn(file: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(file, "r");
    const head = Buffer.alloc(MAX_KEY_BYTES);
    const text = head.toString("utf8", 0, readSync(fd, head));
    const key = /^\{"key":("(?:[^"\\]|\\.)*"),/.exec(text)?.[1];
    return key === undefined ? undefined : (JSON.parse(key) as string);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
