import { fail } from "./exit.ts";
import { createProgram } from "./program.ts";

const program = createProgram();

program.exitOverride((error) => {
  // commander's own errors are misuse: 2, as for every tool of the house; help and version are successes.
  process.exit(error.exitCode === 0 ? 0 : 2);
});

// No top-level await: the binary holds this file as CommonJS, which alone may have a code cache (4× the start, 17 MB).
program.parseAsync().catch(fail);
