import type { Command } from "commander";
import { DEFAULT_SOCKET } from "./control-client.ts";
import { type Format, outputOption } from "./output.ts";

export function register(program: Command): void {
  program
    .command("down")
    .description("leave the mesh: not Ready first, then drained, then stopped; the workload is deleted")
    .option("--socket <path>", "control socket", DEFAULT_SOCKET)
    .addOption(outputOption())
    .action(async (options: { socket: string; output: Format }) => {
      const { down } = await import("./down-steps.ts");
      await down(options.socket, options.output);
    });
}
