import { isSea } from "node:sea";
import { fileURLToPath } from "node:url";

/** The command line that runs this very program with other arguments, as source or as single executable. */
export function selfCommand(...args: readonly string[]): [string, ...string[]] {
  if (isSea()) return [process.execPath, ...args];
  return [process.execPath, fileURLToPath(new URL("../agent/main.ts", import.meta.url)), ...args];
}

/** What a child of the lab gets to see of the environment: nothing that changes how a program behaves. */
export function plainEnvironment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LANG: "C.UTF-8", ...extra };
}
