import type { Command } from "commander";

/** One subcommand: says its options at once, loads what it needs only when it runs. */
export interface CommandModule {
  register(program: Command): void;
}

/** Every subcommand, one file each. Heavy imports stay inside the actions, so that `--help` is quick. */
export const commands: readonly CommandModule[] = [];
