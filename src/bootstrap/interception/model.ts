import { type Cidr, cidrContains, formatCidr, parseCidr, parseIp } from "../../proxy/core/address.ts";

/** What happens to new connections once the agent has stopped renewing its lease. */
export type OnDeath =
  /** They go where they would go without an agent. */
  | "open"
  /** They are refused with RST: nobody gets around the agent by killing it. */
  | "closed";

/** Whose outgoing connections are captured. */
export type Selection =
  | { readonly by: "host" }
  | { readonly by: "uid"; readonly ids: readonly number[] }
  | { readonly by: "gid"; readonly ids: readonly number[] }
  /** Names of systemd units, such as `legacy-app.service`. */
  | { readonly by: "unit"; readonly units: readonly string[] };

/** A destination that is never captured, even inside the capture networks. */
export interface Exemption {
  readonly network: Cidr;
  /** Every TCP port if left out. */
  readonly port?: number;
  /** For whom to read the rules: `enroller`, `kubernetes API`. */
  readonly reason: string;
}

/** Inclusive. A single port has both ends equal. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Everything that decides the rules. Plain data; made by {@link parseOptions}, trusted afterwards. */
export interface InterceptionOptions {
  readonly outbound: {
    /** Destinations whose connections go through the agent. Empty: nothing outgoing is captured. */
    readonly networks: readonly Cidr[];
    readonly onDeath: OnDeath;
    readonly selection: Selection;
    /** Where the agent's outbound listener is, on 127.0.0.1 and ::1. */
    readonly proxyPort: number;
    readonly exempt: readonly Exemption[];
    /** Devices behind which containers or virtual machines are whose connections are captured, too; `br-*` for several. */
    readonly forwarded: readonly string[];
  };
  readonly inbound: {
    /** Ports that the workload declares. Empty: nothing incoming is captured. */
    readonly ports: readonly PortRange[];
    readonly onDeath: OnDeath;
    /** Where the agent's inbound listener is, on every address. */
    readonly proxyPort: number;
    /** Never captured or refused, whatever `ports` says. */
    readonly sshPorts: readonly number[];
  };
  readonly agent: {
    /** The uid that may renew the lease and whose own connections are never captured. Not root: that would exempt all. */
    readonly uid: number;
    /** Its systemd unit, exempt as a whole; undefined where there is no systemd. */
    readonly unit: string | undefined;
  };
  readonly routing: {
    /** One bit, for packet and connection mark alike. */
    readonly mark: number;
    readonly table: number;
    readonly priority: number;
  };
}

export const DEFAULTS = {
  outboundPort: 4140,
  inboundPort: 4143,
  sshPorts: [22],
  mark: 0x1000,
  table: 4140,
  priority: 1040,
} as const;

/** The options are wrong. `key` is the path of the wrong one, such as `inbound.ports[2]`. */
export class OptionsError extends Error {
  override readonly name = "OptionsError";
  readonly key: string;

  constructor(key: string, message: string) {
    super(`${key}: ${message}`);
    this.key = key;
  }
}

/** The options as they stand in a file: the same shape, with text for networks and everything but `agent.uid` optional. */
export interface InterceptionFile {
  readonly format: 1;
  readonly outbound?: {
    readonly networks?: readonly string[];
    readonly onDeath?: OnDeath;
    /** `host`, or lists of uids, gids or unit names. */
    readonly selection?:
      | "host"
      | { readonly uids: readonly number[] }
      | { readonly gids: readonly number[] }
      | { readonly units: readonly string[] };
    readonly proxyPort?: number;
    readonly exempt?: readonly { readonly network: string; readonly port?: number; readonly reason: string }[];
    readonly forwarded?: readonly string[];
  };
  readonly inbound?: {
    /** Numbers, or `first-last`. */
    readonly ports?: readonly (number | string)[];
    readonly onDeath?: OnDeath;
    readonly proxyPort?: number;
    readonly sshPorts?: readonly number[];
  };
  readonly agent: { readonly uid: number; readonly unit?: string };
  readonly routing?: { readonly mark?: number; readonly table?: number; readonly priority?: number };
}

/**
 * Parses and defaults an {@link InterceptionFile}. The file is written by the agent and read by root: nothing of it
 * reaches a ruleset or a command line except as a number, a network or a checked unit name.
 * @throws OptionsError naming the first key that is wrong; unknown keys are wrong.
 */
export function parseOptions(value: unknown): InterceptionOptions {
  const top = new Fields("", value, ["format", "outbound", "inbound", "agent", "routing"]);
  if (top.get("format") !== 1) throw new OptionsError("format", "must be 1");
  const outbound = top.fields("outbound", ["networks", "onDeath", "selection", "proxyPort", "exempt", "forwarded"]);
  const inbound = top.fields("inbound", ["ports", "onDeath", "proxyPort", "sshPorts"]);
  const agent = top.fields("agent", ["uid", "unit"]);
  const routing = top.fields("routing", ["mark", "table", "priority"]);
  const options: InterceptionOptions = {
    outbound: {
      networks: outbound.list("networks").map(([key, item]) => network(key, item)),
      onDeath: onDeath(outbound, "open"),
      selection: selection("outbound.selection", outbound.get("selection")),
      proxyPort: outbound.integer("proxyPort", 1, 65_535, DEFAULTS.outboundPort),
      exempt: outbound.list("exempt").map(([key, item]) => exemption(key, item)),
      forwarded: outbound.list("forwarded").map(([key, item]) => deviceName(key, item)),
    },
    inbound: {
      ports: inbound.list("ports").map(([key, item]) => portRange(key, item)),
      onDeath: onDeath(inbound, "closed"),
      proxyPort: inbound.integer("proxyPort", 1, 65_535, DEFAULTS.inboundPort),
      sshPorts: inbound.has("sshPorts")
        ? inbound.list("sshPorts").map(([key, item]) => integer(key, item, 1, 65_535))
        : DEFAULTS.sshPorts,
    },
    agent: {
      uid: agent.integer("uid", 1, 0xffff_fffe),
      unit: agent.has("unit") ? unitName("agent.unit", agent.get("unit")) : undefined,
    },
    routing: {
      mark: routing.integer("mark", 1, 0xffff_ffff, DEFAULTS.mark),
      // 253 to 255 are the kernel's own tables, 0 means none.
      table: routing.integer("table", 256, 0x7fff_ffff, DEFAULTS.table),
      // Below 32766, the main table's: a rule after it would never be asked.
      priority: routing.integer("priority", 1, 32_765, DEFAULTS.priority),
    },
  };
  refuseContradictions(options);
  return options;
}

function refuseContradictions({ outbound, inbound, routing }: InterceptionOptions): void {
  // One bit, so that setting and testing it leaves everybody else's bits alone.
  if ((routing.mark & (routing.mark - 1)) !== 0) throw new OptionsError("routing.mark", "must be a single bit");
  const reserved = new Map<number, string>(inbound.sshPorts.map((port) => [port, "an SSH port"]));
  reserved.set(inbound.proxyPort, "the agent's own inbound port");
  reserved.set(outbound.proxyPort, "the agent's own outbound port");
  for (const [port, what] of reserved) {
    const index = inbound.ports.findIndex((range) => range.first <= port && port <= range.last);
    if (index >= 0) throw new OptionsError(`inbound.ports[${index}]`, `${port} is ${what} and cannot be captured`);
  }
  for (const [index, captured] of outbound.networks.entries()) {
    if (captured.prefix === 0)
      throw new OptionsError(`outbound.networks[${index}]`, "the whole Internet is not a cluster");
    const loopback = parseIp(captured.version === 4 ? "127.0.0.1" : "::1");
    if (loopback !== undefined && cidrContains(captured, loopback)) {
      throw new OptionsError(`outbound.networks[${index}]`, `${formatCidr(captured)} contains loopback`);
    }
  }
}

/** An object of the file whose keys are known. */
class Fields {
  readonly #path: string;
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(path: string, value: unknown, known: readonly string[]) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new OptionsError(path || "file", "must be an object");
    }
    this.#path = path;
    this.#values = new Map(Object.entries(value));
    for (const key of this.#values.keys()) {
      if (!known.includes(key)) throw new OptionsError(this.key(key), "is not known");
    }
  }

  key(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }

  has(name: string): boolean {
    return this.#values.get(name) !== undefined;
  }

  get(name: string): unknown {
    return this.#values.get(name);
  }

  fields(name: string, known: readonly string[]): Fields {
    return new Fields(this.key(name), this.get(name) ?? {}, known);
  }

  list(name: string): (readonly [key: string, item: unknown])[] {
    const value = this.get(name) ?? [];
    if (!Array.isArray(value)) throw new OptionsError(this.key(name), "must be a list");
    return value.map((item: unknown, index) => [`${this.key(name)}[${index}]`, item] as const);
  }

  integer(name: string, least: number, most: number, otherwise?: number): number {
    return integer(this.key(name), this.get(name) ?? otherwise, least, most);
  }
}

function integer(key: string, value: unknown, least: number, most: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    throw new OptionsError(key, `must be a whole number from ${least} to ${most}`);
  }
  return value;
}

function onDeath(fields: Fields, otherwise: OnDeath): OnDeath {
  const value = fields.get("onDeath") ?? otherwise;
  if (value !== "open" && value !== "closed") throw new OptionsError(fields.key("onDeath"), "must be open or closed");
  return value;
}

function network(key: string, value: unknown): Cidr {
  const cidr = typeof value === "string" ? parseCidr(value) : undefined;
  if (cidr === undefined) throw new OptionsError(key, "must be a network such as 10.96.0.0/12");
  return cidr;
}

function exemption(key: string, value: unknown): Exemption {
  const fields = new Fields(key, value, ["network", "port", "reason"]);
  const reason = fields.get("reason");
  // It becomes a comment inside quotes in the ruleset.
  if (typeof reason !== "string" || !/^[A-Za-z0-9 .:-]{1,60}$/.test(reason)) {
    throw new OptionsError(fields.key("reason"), "must be 1 to 60 letters, digits, spaces, dots, colons or hyphens");
  }
  return {
    network: network(fields.key("network"), fields.get("network")),
    ...(fields.has("port") ? { port: fields.integer("port", 1, 65_535) } : {}),
    reason,
  };
}

function portRange(key: string, value: unknown): PortRange {
  if (typeof value === "string") {
    const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(value) ?? [];
    const range = { first: integer(key, Number(first), 1, 65_535), last: integer(key, Number(last), 1, 65_535) };
    if (range.first > range.last) throw new OptionsError(key, "ends before it begins");
    return range;
  }
  const port = integer(key, value, 1, 65_535);
  return { first: port, last: port };
}

function selection(key: string, value: unknown): Selection {
  if (value === undefined || value === "host") return { by: "host" };
  const fields = new Fields(key, value, ["uids", "gids", "units"]);
  const given = ["uids", "gids", "units"].filter((name) => fields.has(name));
  const [only] = given;
  if (only === undefined || given.length > 1) throw new OptionsError(key, "must be host, or one of uids, gids, units");
  const items = fields.list(only);
  if (items.length === 0) throw new OptionsError(`${key}.${only}`, "selects nobody");
  if (only === "units") return { by: "unit", units: items.map(([path, item]) => unitName(path, item)) };
  return { by: only === "uids" ? "uid" : "gid", ids: items.map(([path, item]) => integer(path, item, 0, 0xffff_fffe)) };
}

function deviceName(key: string, value: unknown): string {
  // IFNAMSIZ; it stands in quotes in the ruleset, where only a `*` at the end means more than itself.
  if (
    typeof value !== "string" ||
    !/^(?:[A-Za-z0-9_.@-]{1,15}|[A-Za-z0-9_.@-]{1,14}\*)$/.test(value) ||
    value === "lo"
  ) {
    throw new OptionsError(key, "must be the name of a device such as docker0 or br-*");
  }
  return value;
}

function unitName(key: string, value: unknown): string {
  if (typeof value !== "string" || !/^[A-Za-z0-9:_.@-]{1,200}\.(service|scope|slice)$/.test(value)) {
    throw new OptionsError(key, "must be the name of a systemd unit such as legacy-app.service");
  }
  return value;
}
