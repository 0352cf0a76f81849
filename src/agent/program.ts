import { Command } from "commander";
import { commands } from "./commands/index.ts";
import { VERSION } from "./version.ts";

/** The whole command line, ready to parse: also what the completion files and the tests of the manual page read. */
export function createProgram(): Command {
  const program = new Command("mesh-agent")
    .description("Brings a Linux host into a Linkerd service mesh")
    .version(VERSION)
    .showHelpAfterError("(run with --help for the options)")
    .configureHelp({ sortSubcommands: true });
  for (const command of commands) command.register(program);
  return program;
}
