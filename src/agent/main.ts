import { fail } from "./exit.ts";
import { createProgram } from "./program.ts";

const program = createProgram();

program.exitOverride((error) => {
  // commander's own errors are misuse: 2, as for every tool of the house; help and version are successes.
  process.exit(error.exitCode === 0 ? 0 : 2);
});

// Whoever reads may leave, as in `mesh-agent status | head -1`: a command still finishes what it has begun.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

// No top-level await: the binary holds this file as CommonJS, which alone may have a code cache (4× the start, 17 MB).
program.parseAsync().catch(fail);
