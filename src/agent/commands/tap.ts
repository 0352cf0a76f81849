import type { Command } from "commander";
import type { TapEvent } from "../../proxy/core/messages.ts";
import { DEFAULT_SOCKET } from "./control-client.ts";
import { type Format, outputOption } from "./output.ts";

export function register(program: Command): void {
  program
    .command("tap")
    .description("watch requests as they end, both directions")
    .option("--socket <path>", "control socket", DEFAULT_SOCKET)
    .option("-n, --count <number>", "stop after this many", Number)
    .addOption(outputOption())
    .action(async (options: { socket: string; count?: number; output: Format }) => {
      const { follow } = await import("./control-client.ts");
      let seen = 0;
      for await (const event of follow<TapEvent>(options.socket, "/tap")) {
        process.stdout.write(`${options.output === "json" ? JSON.stringify(event) : tapLine(event)}\n`);
        if (++seen === options.count || !process.stdout.writable) return;
      }
    });
}

/** One request on one line: who, whom, what, how it went. */
export function tapLine(event: TapEvent): string {
  const arrow = event.direction === "inbound" ? "<-" : "->";
  const status = event.grpcStatus === undefined ? String(event.status) : `${event.status}/grpc ${event.grpcStatus}`;
  return [
    `${event.direction.padEnd(8)} ${event.method} ${event.authority}${event.path} ${status}`,
    `${event.latencyMs.toFixed(1)}ms`,
    `tls=${event.tls ? "yes" : "no"}`,
    `${event.sourceIdentity ?? event.source} ${arrow} ${event.destinationIdentity ?? event.destination}`,
    `endpoint=${event.destination}`,
    `route=${event.route || "none"}`,
  ].join("  ");
}
