import { PROBE } from "./lease.ts";
import type { InterceptionOptions } from "./model.ts";
import type { HostFacts } from "./ruleset.ts";

/** One object of policy routing: the words that follow `ip -4 rule add` or `ip -4 route add`, and `del` likewise. */
export interface RoutingObject {
  readonly family: 4 | 6;
  readonly kind: "route" | "rule";
  readonly words: readonly string[];
}

/**
 * The routing that brings marked packets to this host's own sockets, in the order of making it; undo in reverse.
 *
 * The probe has a rule of its own, for the moment before its packet is marked: `connect` wants a route, and a host may
 * have no default route. It holds for unmarked packets alone, so the marked probe depends on the same rule and route as
 * everything captured, and fails with them.
 */
export function planRouting({ agent, routing }: InterceptionOptions, facts: HostFacts): RoutingObject[] {
  const table = String(routing.table);
  const priority = String(routing.priority);
  const mark = `0x${routing.mark.toString(16)}`;
  return facts.families.flatMap((family): RoutingObject[] => {
    const [probe, everything, loopback] =
      family === 4 ? [`${PROBE.v4}/32`, "0.0.0.0/0", "127.0.0.1"] : [`${PROBE.v6}/128`, "::/0", "::1"];
    return [
      { family, kind: "route", words: ["local", everything, "dev", "lo", "table", table] },
      { family, kind: "route", words: ["local", probe, "dev", "lo", "src", loopback, "table", table] },
      { family, kind: "rule", words: ["fwmark", `${mark}/${mark}`, "lookup", table, "priority", priority] },
      {
        family,
        kind: "rule",
        words: [
          // The number: without /etc/protocols, which a small system lacks, `ip` does not know the name.
          ...["to", probe, "fwmark", `0/${mark}`, "ipproto", "6", "dport", String(PROBE.port)],
          ...["uidrange", `${agent.uid}-${agent.uid}`, "lookup", table, "priority", priority],
        ],
      },
    ];
  });
}
