import { type Cidr, formatCidr } from "../../proxy/core/address.ts";
import { LEASE, PROBE } from "./lease.ts";
import type { InterceptionOptions, PortRange } from "./model.ts";

/** What only the host knows, read by `host.ts`. */
export interface HostFacts {
  /** Families whose stack is switched on. */
  readonly families: readonly (4 | 6)[];
  /** Unit name → path below the cgroup root, of those units that exist now; the kernel takes no others. */
  readonly cgroups: ReadonlyMap<string, string>;
  /** What is found of SSH daemons, whatever the options say of them. */
  readonly ssh: {
    /** Where one listens, in ascending order. */
    readonly ports: readonly number[];
    /** Paths of their units below the cgroup root. */
    readonly cgroups: readonly string[];
  };
  /**
   * Bridges whose frames netfilter sees before they are routed (br_netfilter). What TPROXY gives such a packet is lost on
   * its way up (ip_rcv orphans it), so nothing that comes in by one of these can be captured.
   */
  readonly filteredBridges: readonly string[];
}

/** Of the devices that were asked for, those that can be served. */
export function servedDevices({ outbound }: InterceptionOptions, { filteredBridges }: HostFacts): readonly string[] {
  return outbound.forwarded.filter((device) => !filteredBridges.some((bridge) => deviceMatches(device, bridge)));
}

function deviceMatches(pattern: string, device: string): boolean {
  return pattern.endsWith("*") ? device.startsWith(pattern.slice(0, -1)) : device === pattern;
}

export const TABLE = "inet mesh_agent";

const CHAINS = ["outbound_new", "outbound_captured", "inbound_new", "forwarded_new", "forwarded_captured"];

// Where clouds answer a machine's questions about itself, beside 169.254.0.0/16: Azure, Alibaba; Amazon, Google.
const METADATA = { ip: ["100.100.100.200", "168.63.129.16"], ip6: ["fd00:ec2::254", "fd20:ce::254"] } as const;

// A SYN and nothing else opens a connection. `ct state new` would not do: when these rules are the first to switch
// connection tracking on, every connection that is already open counts as new, the operator's SSH among them.
const SYN = "tcp flags & (syn | ack | rst | fin) == syn";

/**
 * Renders the whole table. It is loaded in one transaction, over an older version of itself if there is one: rules and
 * sets are replaced, the lease lives on, so a reload neither captures nor refuses anything in between.
 * @param capturing - False while leaving: what is captured already stays so, nothing new is captured or refused.
 */
export function renderRuleset(options: InterceptionOptions, facts: HostFacts, capturing = true): string {
  const v6 = facts.families.includes(6);
  const { outbound, inbound, routing } = options;
  const sshPorts = [...new Set([...inbound.sshPorts, ...facts.ssh.ports])].sort((a, b) => a - b);
  const mark = `0x${routing.mark.toString(16)}`;
  const marked = `ct mark & ${mark} == ${mark} ct direction original`;
  const remember = `ct mark set ct mark | ${mark}`;
  const claim = `${remember} meta mark set meta mark | ${mark}`;
  const sets = [
    set("capture4", "ipv4_addr", outbound.networks.filter((network) => network.version === 4).map(formatCidr)),
    set("capture6", "ipv6_addr", outbound.networks.filter((network) => network.version === 6).map(formatCidr)),
    set("inbound_ports", "inet_service", inbound.ports.map(formatRange)),
  ];
  const families = [
    {
      nfproto: "ipv4",
      ip: "ip",
      lease: LEASE.v4,
      probe: PROBE.v4,
      proxy: `127.0.0.1:${outbound.proxyPort}`,
      set: "capture4",
    },
    ...(v6
      ? [
          {
            nfproto: "ipv6",
            ip: "ip6",
            lease: LEASE.v6,
            probe: PROBE.v6,
            proxy: `[::1]:${outbound.proxyPort}`,
            set: "capture6",
          },
        ]
      : []),
  ];
  const agent = `meta skuid ${options.agent.uid}`;
  const agentUnit = options.agent.unit === undefined ? undefined : facts.cgroups.get(options.agent.unit);

  const output = [
    ...families.map(
      ({ ip, lease }) =>
        `${agent} ${ip} daddr ${lease} udp dport ${LEASE.port} update @lease { meta nfproto timeout ${LEASE.lastsMs / 1000}s } accept comment "the agent renews its lease"`,
    ),
    "meta l4proto != tcp accept",
    ...families.map(
      ({ ip, probe }) =>
        `${agent} ${ip} daddr ${probe} tcp dport ${PROBE.port} ${claim} accept comment "self-probe: captured with or without a lease"`,
    ),
    `${agent} accept comment "the agent's own connections"`,
    ...(agentUnit === undefined ? [] : [`${inCgroup(agentUnit)} accept comment "the agent's unit"`]),
    // What it asks at a login (a directory, a key server) must not depend on us.
    ...facts.ssh.cgroups.map((path) => `${inCgroup(path)} accept comment "the SSH daemon's own connections"`),
    `${marked} meta mark set meta mark | ${mark} accept comment "captured before: stays so, lease or not"`,
    `${SYN} jump outbound_new`,
  ];
  const exempt = [
    'tcp dport 53 accept comment "DNS"',
    'ip daddr 169.254.0.0/16 accept comment "link-local: cloud metadata"',
    `ip daddr ${list(METADATA.ip)} accept comment "cloud metadata"`,
    ...(v6
      ? [
          'ip6 daddr fe80::/10 accept comment "link-local"',
          `ip6 daddr ${list(METADATA.ip6)} accept comment "cloud metadata"`,
        ]
      : []),
    ...outbound.exempt.map(
      ({ network, port, reason }) => `${destination(network)}${tcpPort(port)} accept comment "${reason}"`,
    ),
  ];
  const outboundNew = [
    'oifname "lo" accept comment "loopback and the host\'s own addresses"',
    ...exempt,
    ...families.flatMap(({ ip, set }) =>
      selectors(options, facts).map((who) => `${ip} daddr @${set} ${who}jump outbound_captured`),
    ),
  ];
  const outboundCaptured = [
    `meta nfproto @lease ${claim} accept`,
    ...(outbound.onDeath === "closed" ? ["reject with tcp reset"] : []),
  ];
  // Containers that asked for it.
  const devices = servedDevices(options, facts);
  const forwarding = devices.flatMap((device) => [
    ...families.map(
      ({ nfproto, ip, proxy }) =>
        `iifname "${device}" ${marked} fib daddr type != local meta nfproto ${nfproto} meta mark set meta mark | ${mark} meta l4proto tcp tproxy ${ip} to ${proxy} accept comment "forwarded, captured before"`,
    ),
    `iifname "${device}" ${SYN} fib daddr type != local jump forwarded_new`,
  ]);
  const forwardedNew = [...exempt, ...families.map(({ ip, set }) => `${ip} daddr @${set} jump forwarded_captured`)];
  const forwardedCaptured = [
    ...families.map(
      ({ nfproto, ip, proxy }) =>
        `meta nfproto ${nfproto} meta nfproto @lease meta l4proto tcp ${claim} tproxy ${ip} to ${proxy} accept`,
    ),
    ...(outbound.onDeath === "closed" ? ["reject with tcp reset"] : []),
  ];
  // After everybody's filters of this hook: firewalld asks there for the route back to the sender, by the packet's mark and
  // socket (`fib saddr . mark . iif`), and drops what already has ours.
  const late = [
    "meta l4proto != tcp accept",
    // nft wants the protocol named in every rule with tproxy, whatever came before.
    ...families.map(
      ({ nfproto, ip, proxy }) =>
        `iifname "lo" meta nfproto ${nfproto} meta mark & ${mark} == ${mark} meta l4proto tcp tproxy ${ip} to ${proxy} accept comment "captured outbound"`,
    ),
    // No socket took it, so the agent is gone: the kernel would drop it in silence, for the address is not this host's.
    `iifname "lo" meta mark & ${mark} == ${mark} reject with tcp reset`,
    ...forwarding,
    `${marked} meta mark set meta mark | ${mark} comment "taken for the agent: stays here, whoever translated its address since"`,
  ];
  // Before anybody's address translation: a declared port may be one that Docker publishes.
  const prerouting = [
    "meta l4proto != tcp accept",
    'iifname "lo" accept comment "the agent\'s own dial to the application"',
    ...devices.map((device) => `iifname "${device}" fib daddr type != local accept comment "forwarded: decided later"`),
    `${marked} meta l4proto tcp tproxy to :${inbound.proxyPort} accept comment "captured before: stays so, lease or not"`,
    `tcp dport ${list(sshPorts.map(String))} accept comment "SSH"`,
    `${SYN} tcp dport @inbound_ports fib daddr type local jump inbound_new`,
  ];
  const input =
    inbound.onDeath === "closed"
      ? [
          `iifname != "lo" ${marked} socket transparent 0 reject with tcp reset comment "taken for the agent, and another would get it: the frame came by a filtered bridge"`,
        ]
      : [];
  const inboundNew = [
    `meta nfproto @lease meta l4proto tcp ${remember} tproxy to :${inbound.proxyPort} accept`,
    // Also reached with a lease if nobody listens: tproxy finds no socket and the rule does not match.
    ...(inbound.onDeath === "closed" ? ["reject with tcp reset"] : []),
  ];

  return `${[
    `add table ${TABLE}`,
    `add set ${TABLE} lease { type nf_proto; size 8; flags dynamic,timeout; timeout ${LEASE.lastsMs / 1000}s; }`,
    ...sets.map(({ declaration }) => `add set ${TABLE} ${declaration}`),
    `add chain ${TABLE} output { type route hook output priority mangle; policy accept; }`,
    `add chain ${TABLE} prerouting { type filter hook prerouting priority mangle; policy accept; }`,
    `add chain ${TABLE} late { type filter hook prerouting priority filter + 50; policy accept; }`,
    `add chain ${TABLE} input { type filter hook input priority mangle; policy accept; }`,
    ...CHAINS.map((chain) => `add chain ${TABLE} ${chain}`),
    `flush table ${TABLE}`,
    ...sets.map(({ name }) => `flush set ${TABLE} ${name}`),
    ...sets.flatMap(({ name, elements }) =>
      elements.length === 0 ? [] : [`add element ${TABLE} ${name} ${list(elements)}`],
    ),
    ...rules("output", output),
    ...rules("prerouting", prerouting),
    ...rules("late", late),
    ...rules("input", input),
    ...(capturing
      ? [
          ...rules("outbound_new", outboundNew),
          ...rules("outbound_captured", outboundCaptured),
          ...rules("inbound_new", inboundNew),
          ...(devices.length === 0
            ? []
            : [...rules("forwarded_new", forwardedNew), ...rules("forwarded_captured", forwardedCaptured)]),
        ]
      : []),
  ].join("\n")}\n`;
}

function rules(chain: string, lines: readonly string[]): string[] {
  return lines.map((line) => `add rule ${TABLE} ${chain} ${line}`);
}

function set(name: string, type: string, elements: readonly string[]) {
  return { name, elements, declaration: `${name} { type ${type}; flags interval; auto-merge; }` };
}

/** The condition on the sender, one for each rule that is needed, each ending in a space unless empty. */
function selectors({ outbound }: InterceptionOptions, facts: HostFacts): string[] {
  const { selection } = outbound;
  switch (selection.by) {
    case "host":
      return [""];
    case "uid":
      return [`meta skuid ${list(selection.ids.map(String))} `];
    case "gid":
      return [`meta skgid ${list(selection.ids.map(String))} `];
    case "unit":
      // A unit that is not running has no cgroup: its rule comes when the rules are rendered again.
      return selection.units.flatMap((unit) => {
        const path = facts.cgroups.get(unit);
        return path === undefined ? [] : [`${inCgroup(path)} `];
      });
    default:
      return selection satisfies never;
  }
}

/** The kernel compares the ancestor at one depth, which takes in everything below the unit. */
function inCgroup(path: string): string {
  return `socket cgroupv2 level ${path.split("/").length} "${path}"`;
}

function destination(network: Cidr): string {
  return `${network.version === 4 ? "ip" : "ip6"} daddr ${formatCidr(network)}`;
}

function tcpPort(port: number | undefined): string {
  return port === undefined ? "" : ` tcp dport ${port}`;
}

function formatRange({ first, last }: PortRange): string {
  return first === last ? `${first}` : `${first}-${last}`;
}

function list(items: readonly string[]): string {
  return `{ ${items.join(", ")} }`;
}
