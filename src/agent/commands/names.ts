import type { Command } from "commander";
import type { NamesOptions } from "./names-actions.ts";
import { outputOption } from "./output.ts";

/** `mesh-agent names …`: what the units run when the agent starts and stops, and what an operator runs to see or undo it. */
export function register(program: Command): void {
  const command = program
    .command("names")
    .description("show, apply or remove what tells this host's resolver about the cluster's names");
  const sub = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .option("--config <file>", "what the agent wrote", "/var/lib/mesh-agent/resolver.json")
      .addOption(outputOption())
      .action(async (options: NamesOptions) => (await import("./names-actions.ts")).runNames(name, options));
  sub("plan", "say which resolver this host has, and what apply would change (root)");
  sub("apply", "tell the resolver where the cluster's names are answered; harmless when repeated (root)");
  sub("remove", "take everything back (root)");
}
