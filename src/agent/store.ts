import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

/** Small files that must survive a crash at any moment: each is written whole or not at all. */
export interface Store {
  /** undefined if there is none. */
  read(name: string): Buffer | undefined;
  /** @param mode - File mode; 0600 unless said otherwise. @throws on a full or read-only disk; the old file stays. */
  write(name: string, data: Buffer | string, mode?: number): void;
  remove(name: string): void;
}

/** A store in a directory of its own, mode 0700. */
export function openStore(directory: string): Store {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return {
    read(name) {
      try {
        return readFileSync(join(directory, name));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
    write(name, data, mode = 0o600) {
      const target = join(directory, name);
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
      // O_EXCL: nobody can have laid a link there; a leftover of a crash is removed first.
      const temporary = `${target}.${process.pid}.tmp`;
      rmSync(temporary, { force: true });
      const fd = openSync(temporary, "wx", mode);
      try {
        const bytes = typeof data === "string" ? Buffer.from(data) : data;
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
        fsyncSync(fd);
      } catch (error) {
        closeSync(fd);
        rmSync(temporary, { force: true });
        throw error;
      }
      closeSync(fd);
      renameSync(temporary, target);
      // The rename itself is durable only once the directory is.
      const folder = openSync(dirname(target), "r");
      try {
        fsyncSync(folder);
      } finally {
        closeSync(folder);
      }
    },
    remove(name) {
      rmSync(join(directory, name), { force: true });
    },
  };
}
