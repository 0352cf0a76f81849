import type { Command } from "commander";
import { refuseDangerousEnvironment } from "../environment.ts";

export function register(program: Command): void {
  program
    .command("run")
    .description("run the agent in the foreground (what the systemd unit starts)")
    .option("-c, --config <file>", "configuration file (default: /etc/mesh-agent/config.yaml)")
    .action(async (options: { config?: string }) => {
      refuseDangerousEnvironment(process.env);
      const { loadConfig } = await import("../config.ts");
      const config = loadConfig(options.config);
      const { runAgent } = await import("../assemble.ts");
      await runAgent(config);
    });
}
