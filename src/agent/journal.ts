import { fstatSync, writeSync } from "node:fs";
import { connectDatagram } from "./posix.ts";

const SOCKET = "/run/systemd/journal/socket";
const STANDARD_ERROR = 2;
// journald takes what fits into a socket's buffer, some 200 KB; a line that long is nobody's to read.
const MOST_BYTES = 32 * 1024;

/** syslog(3). */
export type Priority = 3 | 4 | 6 | 7;

/** Whether standard error leads to the journal (systemd.exec(5), `JOURNAL_STREAM`). */
export function isJournal(environment: NodeJS.ProcessEnv, fd = STANDARD_ERROR): boolean {
  const said = environment["JOURNAL_STREAM"];
  if (said === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return said === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Where entries of the journal go, with their fields. */
export interface Journal {
  /** @param fields - Values without control characters; names as in the program, such as `afterMs`. */
  entry(priority: Priority, message: string, fields: Readonly<Record<string, unknown>>): void;
}

/**
 * Opens the journal's own socket. Nothing waits for it: an entry that it does not take at once is lost, and how many were
 * is said with the next one that it takes.
 * @returns undefined where there is none, such as in a container that has only the stream.
 */
export function openJournal(path = SOCKET): Journal | undefined {
  let fd: number;
  try {
    fd = connectDatagram(path);
  } catch {
    return undefined;
  }
  let lost = 0;
  return {
    entry(priority, message, fields) {
      try {
        writeSync(fd, formatEntry(priority, message, lost === 0 ? fields : { ...fields, lost }));
        lost = 0;
      } catch {
        lost++;
      }
    },
  };
}

/**
 * One entry as journald's native protocol has it. The message carries the fields, too, for whoever reads only messages;
 * each is also a field of its own, `MESH_AGENT_AFTER_MS` for `afterMs`, to select by.
 * @see https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
 */
export function formatEntry(priority: Priority, message: string, fields: Readonly<Record<string, unknown>>): Buffer {
  const entries = Object.entries(fields);
  const words = entries.map(([name, value]) => ` ${name}=${quoted(String(value))}`);
  const lines = [`PRIORITY=${priority}`, "SYSLOG_IDENTIFIER=mesh-agent", `MESSAGE=${cut(message + words.join(""))}`];
  for (const [name, value] of entries) lines.push(`MESH_AGENT_${fieldName(name)}=${cut(String(value))}`);
  return Buffer.from(`${lines.join("\n")}\n`);
}

/** Upper case, digits and underscores are all that journald takes in a name, and 64 bytes of it. */
function fieldName(name: string): string {
  return name
    .replace(/[a-z](?=[A-Z])/g, "$&_")
    .replace(/[^A-Za-z0-9]/g, "_")
    .toUpperCase()
    .slice(0, 50);
}

function quoted(value: string): string {
  return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

// A line feed would begin a field: the log has replaced it before, this is for the day that it has not.
function cut(value: string): string {
  const line = value.replaceAll("\n", " ");
  return line.length <= MOST_BYTES ? line : `${line.slice(0, MOST_BYTES)}…`;
}
