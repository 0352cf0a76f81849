import type { Command } from "commander";
import type { AgentStatus } from "../status.ts";
import { DEFAULT_SOCKET } from "./control-client.ts";
import { age, type Format, outputOption, print, table } from "./output.ts";

export function register(program: Command): void {
  program
    .command("status")
    .description("show the running agent on one screen")
    .option("--socket <path>", "control socket", DEFAULT_SOCKET)
    .addOption(outputOption())
    .action(async (options: { socket: string; output: Format }) => {
      const { ask } = await import("./control-client.ts");
      const status = await ask<AgentStatus>(options.socket, "GET", "/status");
      print(options.output, status, () => render(status));
    });
}

function render(status: AgentStatus): string {
  const { workload, identity, registration, workers, interception } = status;
  const rows = [
    ["state", `${status.state} (up ${age(status.uptimeMs)}, version ${status.version})`],
    ["workload", workload === undefined ? "none: this host has not joined" : `${workload.namespace}/${workload.name}`],
    ["identity", identity === undefined ? "none" : identity.name],
    [
      "certificate",
      identity === undefined
        ? ""
        : `until ${identity.notAfter}${identity.renewalProblem === undefined ? "" : ` (renewal fails: ${identity.renewalProblem})`}`,
    ],
    ["registration", registration === undefined ? "by someone else" : registrationText(registration)],
    [
      "workers",
      `${workers.ready} of ${workers.count} accepting${workers.restarts > 0 ? `, ${workers.restarts} restarted` : ""}`,
    ],
    [
      "interception",
      `IPv4 ${interception.v4 ? "yes" : `no (${interception.why})`}, IPv6 ${interception.v6 ? "yes" : "no"}`,
    ],
  ];
  const watches = status.discovery.map((entry) => [
    entry.key,
    entry.state,
    entry.source,
    entry.ageMs === undefined ? "" : age(entry.ageMs),
    entry.why,
  ]);
  return `${table(rows)}\n${watches.length === 0 ? "" : `\n${table([["WATCH", "STATE", "SOURCE", "AGE", "PROBLEM"], ...watches])}\n`}`;
}

function registrationText(registration: NonNullable<AgentStatus["registration"]>): string {
  const ready = registration.ready ? "Ready" : "not Ready";
  return `${ready}, ${registration.attached ? "attached to the enroller" : "not attached"}${registration.why === "" ? "" : `: ${registration.why}`}`;
}
