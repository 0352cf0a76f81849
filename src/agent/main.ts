import { Command } from "commander";
import { commands } from "./commands/index.ts";
import { fail } from "./exit.ts";
import { VERSION } from "./version.ts";

const program = new Command("mesh-agent")
  .description("Brings a Linux host into a Linkerd service mesh")
  .version(VERSION)
  .showHelpAfterError("(run with --help for the options)")
  .configureHelp({ sortSubcommands: true });

for (const command of commands) command.register(program);

program.exitOverride((error) => {
  // commander's own errors are misuse: 2, as for every tool of the house; help and version are successes.
  process.exit(error.exitCode === 0 ? 0 : 2);
});

// No top-level await: the binary holds this file as CommonJS, which alone may have a code cache (4× the start, 17 MB).
program.parseAsync().catch(fail);
