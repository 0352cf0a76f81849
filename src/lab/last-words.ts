import { readFileSync } from "node:fs";

/** The last lines of a log, for the message about the program that wrote it. */
export function lastWords(log: string, lines = 8): string {
  try {
    return readFileSync(log, "utf8").trim().split("\n").slice(-lines).join("\n");
  } catch {
    return "(no log)";
  }
}
