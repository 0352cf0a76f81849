import type { Command } from "commander";
import { DEFAULT_SOCKET } from "./control-client.ts";
import { type Format, outputOption } from "./output.ts";

export function register(program: Command): void {
  program
    .command("up [join-string]")
    .description("join the mesh with a join string, start the agent, and wait until the workload is registered")
    .option("-c, --config <file>", "configuration file (default: /etc/mesh-agent/config.yaml)")
    .option("--socket <path>", "control socket", DEFAULT_SOCKET)
    .option("--timeout <seconds>", "how long to wait for registration", Number, 60)
    .option("-y, --yes", "keep the interception without asking, if the self-test passes", false)
    .addOption(outputOption())
    .action(
      async (
        join: string | undefined,
        options: { config?: string; socket: string; timeout: number; output: Format; yes: boolean },
      ) => {
        const { up } = await import("./up-steps.ts");
        await up({ join: join ?? process.env["MESH_AGENT_JOIN"], ...options });
      },
    );
}
