import { isJournal } from "./journal.ts";

/** What a command's exit status says (sysexits.h, as far as it fits). */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  configuration: 64,
  joinString: 65,
  unreachable: 69,
  interception: 73,
  tryAgain: 75,
  notPermitted: 77,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/**
 * An end that the operator can act upon: one line that names the cause, one that names the remedy, and an exit status.
 */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exitCode: ExitCode;
  /** What to do about it, as a sentence. */
  readonly remedy: string | undefined;

  constructor(exitCode: ExitCode, message: string, remedy?: string) {
    super(message);
    this.exitCode = exitCode;
    this.remedy = remedy;
  }
}

/** Prints an error the way every command does, and ends the process. */
export function fail(error: unknown): never {
  // For the journal the line begins with its priority (sd-daemon(3)): an error, not a remark.
  const prefix = isJournal(process.env) ? "<3>" : "";
  if (isCommandError(error)) {
    process.stderr.write(
      `${prefix}mesh-agent: ${error.message}${error.remedy === undefined ? "" : ` — ${error.remedy}`}\n`,
    );
    process.exit(error.exitCode);
  }
  process.stderr.write(
    `${prefix}mesh-agent: unexpected: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`,
  );
  process.exit(EXIT.failure);
}

// By shape, not by instanceof: the cluster commands live in a bundle of their own.
function isCommandError(error: unknown): error is CommandError {
  return error instanceof Error && error.name === "CommandError" && "exitCode" in error;
}
