import type { Command } from "commander";
import { type Format, outputOption } from "./output.ts";

/** `mesh-agent demo`, also `mesh-agent lab demo`. */
export function register(parent: Command): void {
  parent
    .command("demo")
    .description("see a mesh on this machine in a minute: a VM joins, calls go both ways (root)")
    .option(
      "--seconds <n>",
      "how long traffic flows for the golden metrics (DEMO_SECONDS)",
      process.env["DEMO_SECONDS"] ?? "20",
    )
    .addOption(outputOption())
    .action(async (options: { seconds: string; output: Format }) =>
      (await import("../../lab/demo/command.ts")).demo(options),
    );
}
