import { cidrContains, formatCidr, formatSocketAddress, parseIp } from "../../proxy/core/address.ts";
import type { LiveConnection } from "./host.ts";
import { LEASE } from "./lease.ts";
import type { InterceptionOptions, Selection } from "./model.ts";
import { planRouting, type RoutingObject } from "./routing.ts";
import { type HostFacts, renderRuleset, servedDevices } from "./ruleset.ts";

/** All that interception will do to a host. */
export interface Plan {
  readonly options: InterceptionOptions;
  readonly facts: HostFacts;
  /** For `nft -f -`: the whole table, in one transaction. */
  readonly ruleset: string;
  /** The same table capturing nothing new, while connections that it captured come to their end. */
  readonly leaving: string;
  /** To be made before the ruleset, and undone after it in reverse. */
  readonly routing: readonly RoutingObject[];
}

/** Decides everything from the options and the host's facts. Pure. */
export function plan(options: InterceptionOptions, facts: HostFacts): Plan {
  return {
    options,
    facts,
    ruleset: renderRuleset(options, facts),
    leaving: renderRuleset(options, facts, false),
    routing: planRouting(options, facts),
  };
}

/** Says in words, one line each, what the plan will do. */
export function explain({ options, facts }: Plan): string[] {
  const { outbound, inbound, agent, routing } = options;
  const lease = `the agent has not renewed its lease for ${LEASE.lastsMs / 1000} s`;
  const lines: string[] = [];
  if (outbound.networks.length === 0) lines.push("Outgoing: nothing is captured.");
  else {
    lines.push(
      `Outgoing: new TCP connections of ${describe(outbound.selection)} to ${outbound.networks.map(formatCidr).join(", ")} go to the agent's port ${outbound.proxyPort}.`,
      `Outgoing, once ${lease}: new connections ${outbound.onDeath === "open" ? "go direct" : "are refused"}.`,
    );
  }
  const devices = servedDevices(options, facts);
  if (outbound.networks.length > 0)
    lines.push(
      devices.length === 0
        ? "Forwarded: connections of containers and virtual machines behind this host are left alone."
        : `Forwarded: new TCP connections that come in by ${devices.join(", ")} and go there are captured, too, under this host's identity.`,
    );
  const unserved = outbound.forwarded.filter((device) => !devices.includes(device));
  if (unserved.length > 0)
    lines.push(
      `Beware: ${unserved.join(", ")} cannot be captured while bridged frames go through the firewall: sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, then apply again.`,
    );
  for (const port of facts.ssh.ports) {
    if (!inbound.sshPorts.includes(port)) lines.push(`Exempt: an SSH daemon listens on port ${port}.`);
  }
  for (const { network, port, reason } of outbound.exempt) {
    lines.push(`Exempt: ${reason} at ${formatCidr(network)}${port === undefined ? "" : `, port ${port}`}.`);
  }
  if (outbound.selection.by === "unit") {
    for (const unit of outbound.selection.units) {
      if (!facts.cgroups.has(unit))
        lines.push(
          `Not yet: ${unit} is not running, or this host has no unified cgroup hierarchy; its rule comes when it does.`,
        );
    }
  }
  if (inbound.ports.length === 0) lines.push("Incoming: nothing is captured.");
  else {
    const ports = inbound.ports.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
    lines.push(
      `Incoming: new TCP connections from other hosts to port ${ports} go to the agent's port ${inbound.proxyPort}.`,
      `Incoming, once ${lease}: new connections to these ports ${inbound.onDeath === "open" ? "go direct" : "are refused"}.`,
    );
  }
  if (facts.filteredBridges.length > 0 && inbound.ports.length > 0)
    lines.push(
      `Beware: what comes to these ports by ${facts.filteredBridges.join(", ")} ${inbound.onDeath === "open" ? "goes to the application past the agent" : "is refused"}, because bridged frames go through the firewall: sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0.`,
    );
  lines.push(
    `Never captured: uid ${agent.uid}${agent.unit === undefined ? "" : ` and ${agent.unit}`}, loopback, SSH (port ${inbound.sshPorts.join(", ")}), DNS, link-local addresses, cloud metadata, everything that is not TCP, every connection that is already open.`,
    `Added: nftables table inet mesh_agent, routing table ${routing.table}, two routing rules of priority ${routing.priority} for ${facts.families.map((family) => `IPv${family}`).join(" and ")}, mark 0x${routing.mark.toString(16)}.`,
  );
  if (!facts.families.includes(6)) lines.push("IPv6 is switched off on this host and left alone.");
  return lines;
}

function describe(selection: Selection): string {
  switch (selection.by) {
    case "host":
      return "all programs";
    case "uid":
    case "gid":
      return `${selection.by} ${selection.ids.join(", ")}`;
    case "unit":
      return selection.units.join(", ");
    default:
      return selection satisfies never;
  }
}

/** A connection that stays as it is, but would be captured if it were opened under this plan. */
export interface Affected {
  readonly direction: "inbound" | "outbound";
  /** `ip:port` of our end and of the other. */
  readonly local: string;
  readonly remote: string;
  readonly uid: number;
}

/** Picks those of the live connections whose successors the plan would capture. Pure. */
export function affected({ options }: Plan, connections: readonly LiveConnection[]): Affected[] {
  const { outbound, inbound, agent } = options;
  return connections.flatMap(({ local, remote, uid, incoming }): Affected[] => {
    const ends = { local: formatSocketAddress(local), remote: formatSocketAddress(remote), uid };
    if (incoming) {
      const declared = inbound.ports.some(({ first, last }) => first <= local.port && local.port <= last);
      return declared && local.ip !== remote.ip ? [{ direction: "inbound", ...ends }] : [];
    }
    const ip = parseIp(remote.ip);
    if (ip === undefined || uid === agent.uid || remote.port === 53) return [];
    if (outbound.selection.by === "uid" && !outbound.selection.ids.includes(uid)) return [];
    if (!outbound.networks.some((network) => cidrContains(network, ip))) return [];
    const exempt = outbound.exempt.some(
      ({ network, port }) => cidrContains(network, ip) && (port === undefined || port === remote.port),
    );
    return exempt ? [] : [{ direction: "outbound", ...ends }];
  });
}
