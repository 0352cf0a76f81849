import type { Command } from "commander";
import { DEFAULT_SOCKET } from "./control-client.ts";
import { type Format, outputOption } from "./output.ts";

export function register(program: Command): void {
  program
    .command("reload")
    .description("put the installed program and configuration into the running one's place without losing a connection")
    .option("-c, --config <file>", "configuration file to check first (default: /etc/mesh-agent/config.yaml)")
    .option("--socket <path>", "control socket", DEFAULT_SOCKET)
    .addOption(outputOption())
    .action(async (options: { config?: string; socket: string; output: Format }) => {
      const { loadConfig } = await import("../config.ts");
      // Before anything is started: the message belongs on this terminal, not into the journal.
      loadConfig(options.config);
      const { ask } = await import("./control-client.ts");
      const { print } = await import("./output.ts");
      const answer = await ask<{ pid: number }>(options.socket, "POST", "/reload");
      print(
        options.output,
        answer,
        () => `process ${answer.pid} has taken over; the one before finishes what it has begun\n`,
      );
    });
}
