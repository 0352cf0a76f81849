import type { Command } from "commander";
import type { InterceptOptions } from "./intercept-actions.ts";
import { outputOption } from "./output.ts";

/** Written by the agent whenever its configuration or the mesh's changes; read here, by root. */
export const INTERCEPTION_PLAN = "/var/lib/mesh-agent/interception.json";

/** `mesh-agent intercept …`: what the small root unit runs, and what an operator runs to see or undo it. */
export function register(program: Command): void {
  const command = program
    .command("intercept")
    .description("show, apply, check or remove the rules that bring connections to the agent");
  const sub = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .option("--config <file>", "interception file, JSON or YAML", INTERCEPTION_PLAN)
      .addOption(outputOption())
      .action(async (options: InterceptOptions) => (await import("./intercept-actions.ts")).runAction(name, options));
  sub("plan", "say in words and in rules what apply would do, and which open connections would be captured");
  sub("apply", "bring the host's rules to the plan; harmless when repeated (root)");
  sub("verify", "compare the host with the plan (root)").option("--repair", "apply the plan if something differs");
  sub("leave", "capture no new connections, keep those that are captured (root)");
  sub("remove", "take everything back (root)");
}
