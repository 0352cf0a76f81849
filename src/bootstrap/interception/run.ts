import { spawn } from "node:child_process";

/** What a program left behind. */
export interface Outcome {
  /** Exit status; 127 if the program does not exist, 128 + signal if one ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, giving it `input` on its standard input. Never rejects. */
export type Run = (program: string, args: readonly string[], input?: string) => Promise<Outcome>;

// A root program: what it runs comes from the system's own directories, whatever the caller's PATH says.
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
// nft answers within 20 ms; a lock held by somebody else's transaction can take longer.
const TIMEOUT_MS = 20_000;

/** The real one: programs of the system, in the C locale, because their messages are read. */
export const runProgram: Run = (program, args, input = "") =>
  new Promise((resolve) => {
    const child = spawn(program, args, { env: { PATH, LC_ALL: "C" }, timeout: TIMEOUT_MS, killSignal: "SIGKILL" });
    const out: string[] = [];
    const err: string[] = [];
    child.stdout.setEncoding("utf8").on("data", (text: string) => out.push(text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => err.push(text));
    child.stdin.on("error", () => {}); // it ended without reading: its status says why
    child.stdin.end(input);
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve({ code: error.code === "ENOENT" ? 127 : 126, stdout: "", stderr: error.message }),
    );
    child.once("close", (code) => resolve({ code: code ?? 137, stdout: out.join(""), stderr: err.join("") }));
  });
