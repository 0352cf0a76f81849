/**
 * Completion of the command line in bash, zsh and fish. `tree.ts` reads the commands as plain data; one file per shell turns
 * that into its script. The package installs the scripts; `mesh-agent completion SHELL` prints the same ones for a binary
 * that came otherwise. Scripts are static: completing a word starts no process.
 *
 * May import: the package that describes the command line. Start at `tree.ts`.
 */
import type { Command } from "commander";
import { bashCompletion } from "./bash.ts";
import { fishCompletion } from "./fish.ts";
import { commandTree } from "./tree.ts";
import { zshCompletion } from "./zsh.ts";

export { type CommandNode, commandTree, type OptionNode } from "./tree.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

const RENDER = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;

/** The script that completes the program's command line in a shell. */
export function completion(shell: Shell, program: Command): string {
  return RENDER[shell](commandTree(program));
}
