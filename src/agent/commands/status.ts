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
    ["certificate", identity === undefined ? "" : certificateText(identity)],
    ...(status.identityProblem === undefined ? [] : [["problem", status.identityProblem]]),
    ["registration", registration === undefined ? "by someone else" : registrationText(registration)],
    ...(registration === undefined
      ? []
      : [["address", `${registration.addresses.join(", ") || "not known"} (${registration.addressWhy})`]]),
    ...(registration === undefined || registration.attached
      ? []
      : [["control plane", awayText(registration.awayMs, identity?.leftMs ?? 0)]]),
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

function certificateText(identity: NonNullable<AgentStatus["identity"]>): string {
  const { notAfter, leftMs, renewalProblem } = identity;
  if (leftMs < 0) return `RAN OUT ${age(-leftMs)} ago: peers refuse this host; join again with mesh-agent up mj1.…`;
  const problem = renewalProblem === undefined ? "" : `; renewal fails: ${renewalProblem}`;
  return `for ${age(leftMs)} more, until ${notAfter}${problem}`;
}

function awayText(awayMs: number, leftMs: number): string {
  const away = `not heard for ${age(awayMs)}`;
  return leftMs < 0 ? away : `${away}; this host goes on for ${age(leftMs)} more, as long as its certificate lives`;
}

function registrationText(registration: NonNullable<AgentStatus["registration"]>): string {
  const ready = registration.ready ? "Ready" : "not Ready";
  return `${ready}, ${registration.attached ? "attached to the enroller" : "not attached"}${registration.why === "" ? "" : `: ${registration.why}`}`;
}
