import { readFileSync } from "node:fs";
import { isMap, isScalar, LineCounter, parseDocument, type YAMLMap } from "yaml";
import { WIRINGS } from "../bootstrap/resolver/index.ts";
import { type Cidr, parseCidr, parseSocketAddress, type SocketAddress } from "../proxy/core/address.ts";
import { DEFAULT_POLICIES } from "../proxy/policy/index.ts";
import { CommandError, EXIT } from "./exit.ts";

/** How one key is read: text in, value out, or a sentence that says what was expected. */
interface Field<T> {
  /** What a value looks like, for errors and documentation. */
  readonly expects: string;
  /** As written in the file; undefined: the key has no default. */
  readonly initial: string | undefined;
  readonly doc: string;
  readonly parse: (value: unknown) => T | undefined;
}

function field<T>(
  initial: string | undefined,
  doc: string,
  expects: string,
  parse: (value: unknown) => T | undefined,
): Field<T> {
  return { initial, doc, expects, parse };
}

const asText = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : undefined);
const text = (initial: string, doc: string) => field(initial, doc, "a text", asText);
const boolean = (initial: boolean, doc: string) =>
  field(String(initial), doc, "true or false", (v) =>
    v === true || v === "true" ? true : v === false || v === "false" ? false : undefined,
  );
const integer = (initial: number, min: number, max: number, doc: string) =>
  field(String(initial), doc, `a whole number from ${min} to ${max}`, (v) => {
    const n = Number(v);
    return v !== "" && v !== null && Number.isInteger(n) && n >= min && n <= max ? n : undefined;
  });
const choice = <const C extends readonly string[]>(choices: C, initial: C[number], doc: string) =>
  field<C[number]>(initial, doc, `one of ${choices.join(", ")}`, (v) => choices.find((c) => c === v));
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** Parses `10s`, `500ms`, `0`, as Linkerd writes durations; milliseconds. */
export function parseDuration(value: unknown): number | undefined {
  if (value === 0 || value === "0") return 0;
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(String(value));
  return match === null ? undefined : Number(match[1]) * (UNITS[match[2] as string] as number);
}
const duration = (initial: string, doc: string) =>
  field(initial, doc, "a duration such as 500ms, 10s, 5m, 24h", parseDuration);
const list = <T>(initial: string, doc: string, expects: string, parse: (item: unknown) => T | undefined) =>
  field<readonly T[]>(initial, doc, `a list of ${expects}`, (v) => {
    const items = Array.isArray(v)
      ? v
      : // YAML takes a list of one port for a number.
        typeof v === "string" || typeof v === "number"
        ? String(v)
            .split(",")
            .map((s) => s.trim())
            .filter((s) => s !== "")
        : undefined;
    const parsed = items?.map(parse);
    return parsed?.includes(undefined) ? undefined : (parsed as T[] | undefined);
  });
const asPort = (v: unknown) =>
  Number.isInteger(Number(v)) && Number(v) > 0 && Number(v) < 65_536 ? Number(v) : undefined;
const asUnit = (v: unknown) =>
  typeof v === "string" && /^[A-Za-z0-9:_.@-]{1,200}\.(?:service|scope|slice)$/.test(v) ? v : undefined;
const asDevice = (v: unknown) =>
  typeof v === "string" && v !== "lo" && /^(?:[A-Za-z0-9_.@-]{1,15}|[A-Za-z0-9_.@-]{1,14}\*)$/.test(v) ? v : undefined;
/** A network, an address, or one port of an address. */
const asDestination = (v: unknown): { readonly network: Cidr; readonly port: number | undefined } | undefined => {
  const one = parseSocketAddress(String(v));
  const network = parseCidr(one?.ip ?? String(v));
  return network && { network, port: one?.port };
};
const ports = (initial: string, doc: string) => list(initial, doc, "ports (1 to 65535)", asPort);
const cidrs = (initial: string, doc: string) =>
  list<Cidr>(initial, doc, "networks such as 10.0.0.0/8", (v) => parseCidr(String(v)));
const address = (initial: string, doc: string) =>
  field<SocketAddress>(initial, doc, "an address such as 127.0.0.1:4191", (v) => parseSocketAddress(String(v)));

/**
 * Every key of the configuration file, with its default, its unit in the way it is written, and what it does. The file,
 * its checks and the reference are all made from this table.
 */
export const KEYS = {
  "workload.namespace": text(
    "",
    "Namespace of the workload. Set by the enroller; needed only with other identity sources.",
  ),
  "workload.name": text("", "Name of the ExternalWorkload (or of the pod). Set by the enroller, as above."),
  "workload.kind": choice(
    ["external-workload", "pod"],
    "external-workload",
    "What the control plane knows this workload as.",
  ),
  "workload.addresses": list("", "Addresses of this workload; empty: all of the host's.", "IP addresses", asText),
  "identity.source": choice(
    ["enroller", "files", "spiffe"],
    "enroller",
    "Where the certificate comes from: the enroller, files, or a SPIFFE Workload API such as SPIRE's.",
  ),
  "identity.directory": text(
    "/var/lib/mesh-agent/identity",
    "With `files`: directory with tls.key, tls.crt and ca.crt.",
  ),
  "identity.serverName": text(
    "",
    "With `files` or `spiffe`: the name that peers put into SNI (the ExternalWorkload's serverName); empty: the certificate's first DNS name.",
  ),
  "identity.spiffeSocket": text("/run/spire/sockets/agent.sock", "With `spiffe`: the unix socket of the Workload API."),
  "identity.spiffeId": text("", "With `spiffe`: which SVID to take if there are several; empty: the first."),
  "spiffe.users": list(
    "",
    "Users (names or numbers) whose programs get this host's identity over the SPIFFE Workload API.",
    "users",
    asText,
  ),
  "spiffe.units": list(
    "",
    "systemd services whose programs get it, over a socket bound into them with BindReadOnlyPaths=.",
    "units such as postgresql.service",
    asText,
  ),
  "spiffe.directory": text(
    "/run/mesh-agent/spiffe",
    "Where the Workload API's sockets are: agent.sock, units/UNIT/agent.sock.",
  ),
  "identity.machineIdFile": text(
    "/etc/machine-id",
    "What tells this machine from its clones; only a hash of it leaves the host.",
  ),
  "identity.joinFile": text("/etc/mesh-agent/join", "Join string for an unattended start; removed once used."),
  "controlPlane.destination": text("", "host:port of linkerd-destination. Set by the enroller."),
  "controlPlane.policy": text("", "host:port of linkerd-policy. Set by the enroller."),
  "controlPlane.name": text("", "TLS name of both. Set by the enroller."),
  "controlPlane.direct": boolean(false, "Dial the control plane's pods; false: through the enroller's one port."),
  "discovery.timeout": duration(
    "10s",
    "How long an unknown destination may wait for the control plane before it fails.",
  ),
  "discovery.maxStale": duration("24h", "How old a stored answer may be that is used while the control plane is away."),
  "dns.addresses": list(
    "",
    "Where the DNS stub answers for the cluster domain, over UDP and TCP, beside sockets that systemd passes in.",
    "addresses such as 127.0.0.1:5353",
    (v) => parseSocketAddress(String(v)),
  ),
  "dns.wiring": choice(
    WIRINGS,
    "auto",
    "How programs of this host find the cluster's names: systemd-resolved, NetworkManager's dnsmasq, resolv.conf; auto: what the host has.",
  ),
  "dns.timeout": duration(
    "2s",
    "How long a name may wait for the enroller before it fails or an older answer is used.",
  ),
  "dns.maxStale": duration("24h", "How old an answer may be that is used while the enroller is away."),
  "inbound.port": integer(4143, 1, 65_535, "Port on which meshed peers reach this host."),
  "inbound.ports": ports("", "Ports of the workload that are watched eagerly. Set by the enroller."),
  "inbound.opaquePorts": ports("", "Ports taken as opaque until the control plane has spoken."),
  "inbound.defaultPolicy": choice(
    DEFAULT_POLICIES,
    "all-unauthenticated",
    "What a port accepts until the control plane has spoken. Set by the enroller.",
  ),
  "inbound.clusterNetworks": cidrs(
    "10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, fd00::/8",
    "What `cluster-*` policies admit. Set by the enroller.",
  ),
  "inbound.maxConnectionsPerClient": integer(
    0,
    0,
    1_000_000,
    "Open connections of one client address (IPv6: of one /64); 0: 95 % of `proxy.maxConnections`.",
  ),
  "inbound.detectTimeout": duration("10s", "How long a client may take for its first bytes."),
  "inbound.connectTimeout": duration("300ms", "To the application."),
  "inbound.failfastTimeout": duration(
    "1s",
    "How long an HTTP/2 request waits for an application that does not listen.",
  ),
  "outbound.port": integer(
    4140,
    1,
    65_535,
    "Port that takes the host's own intercepted connections, on loopback only.",
  ),
  "outbound.detectTimeout": duration(
    "10s",
    "How long a program may take for its first bytes before its connection is opaque.",
  ),
  "outbound.connectTimeout": duration("1s", "To an endpoint: TCP, TLS and transport header."),
  "outbound.failfastTimeout": duration("3s", "How long a request waits for a ready endpoint."),
  "outbound.onMissingIdentity": choice(
    ["refuse", "plaintext"],
    "refuse",
    "What becomes of an endpoint whose announced identity cannot be checked.",
  ),
  "outbound.endpointWeights": boolean(
    true,
    "Weights and zones of endpoints count in balancing; false: neither does, as in Linkerd's proxy.",
  ),
  "proxy.workers": integer(0, 0, 8, "Worker threads; 0: one per core but one, at least one, at most eight."),
  "proxy.maxConnections": integer(
    0,
    0,
    1_000_000,
    "Connections taken at once, both sides together; more are refused. 0: half of the descriptors the process may have.",
  ),
  "proxy.relayIdleTimeout": duration(
    "24h",
    "How long nothing may move in an opaque connection or a tunnel before both ends are reset; 0: for ever.",
  ),
  "proxy.userTimeout": duration(
    "30s",
    "How long a peer may leave unacknowledged, or not take, what it is sent before its connection is given up; 0: as the kernel has it.",
  ),
  "proxy.listeners": choice(
    ["systemd", "self"],
    "systemd",
    "Who opens the listening sockets: systemd, or the agent itself (needs CAP_NET_ADMIN).",
  ),
  "drain.timeout": duration("120s", "How long open connections may go on after a stop."),
  "admin.address": address("127.0.0.1:4191", "Metrics, liveness, readiness."),
  "control.socket": text("/run/mesh-agent/control.sock", "Socket of the command line; whoever may open it may ask."),
  "state.directory": text("/var/lib/mesh-agent", "Identity, stored discovery, registration."),
  "interception.capture": cidrs("", "Networks of the cluster whose connections are captured. Set by the enroller."),
  "interception.uid": text("mesh-agent", "User (name or number) of the agent, whose own connections are exempt."),
  "interception.users": list(
    "",
    "Users (names or numbers) whose connections are captured; empty, and no units: everybody's.",
    "users",
    asText,
  ),
  "interception.units": list(
    "",
    "systemd units whose connections are captured, from shortly after they start; not together with users.",
    "units such as legacy-app.service",
    asUnit,
  ),
  "interception.groups": list(
    "",
    "Groups (names or numbers) whose connections are captured; not together with users or units.",
    "groups",
    asText,
  ),
  "interception.exempt": list(
    "",
    "Destinations inside the captured networks that are never captured, such as the Kubernetes API.",
    "networks or addresses such as 10.96.0.1, 10.96.0.1:443, 10.97.0.0/16",
    asDestination,
  ),
  "interception.forwarded": list(
    "",
    "Devices of containers or virtual machines whose connections to the captured networks go through the agent, under this host's identity; empty: they are left alone.",
    "devices such as docker0, br-*",
    asDevice,
  ),
  "interception.reassert": boolean(
    true,
    "Rules that somebody else took away are put back within seconds; false: that they are gone is only reported.",
  ),
  "interception.onDeathInbound": choice(
    ["closed", "open"],
    "closed",
    "Without an agent, connections to the declared ports are refused, or go to the application.",
  ),
  "interception.onDeathOutbound": choice(
    ["open", "closed"],
    "open",
    "Without an agent, captured connections go direct, or are refused.",
  ),
  "interception.sshPorts": ports("22", "Never captured, whatever else is said."),
  "log.level": choice(["error", "warn", "info", "debug"], "info", "What is logged."),
} as const satisfies Record<string, Field<unknown>>;

type ValueOf<F> = F extends Field<infer T> ? T : never;

/** The configuration: one frozen object with a value for every key of {@link KEYS}; durations in milliseconds. */
export type Config = { readonly [K in keyof typeof KEYS]: ValueOf<(typeof KEYS)[K]> };
export type ConfigKey = keyof typeof KEYS;

export const DEFAULT_CONFIG_FILE = "/etc/mesh-agent/config.yaml";

/** All defaults. */
export function defaultConfig(): Config {
  return decodeConfig("", "defaults");
}

/**
 * Reads a configuration file; a missing one means all defaults.
 * @throws CommandError (64) that names file, line, key and what was expected.
 */
export function loadConfig(file: string = DEFAULT_CONFIG_FILE): Config {
  let source: string;
  try {
    source = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" && file === DEFAULT_CONFIG_FILE) return defaultConfig();
    throw new CommandError(
      EXIT.configuration,
      `${file}: ${(error as Error).message}`,
      "check the path and its permissions",
    );
  }
  return decodeConfig(source, file);
}

/** @throws CommandError (64), as {@link loadConfig}. */
export function decodeConfig(source: string, file: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const broken = document.errors[0];
  if (broken !== undefined)
    throw wrong(file, lines.linePos(broken.pos[0]).line, explainSyntax(broken.code, source.slice(broken.pos[0])));
  const values: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(KEYS))
    values[key] = spec.initial === undefined ? undefined : initialOf(key, spec);
  const root = document.contents;
  if (root !== null && !(isScalar(root) && root.value === null)) {
    if (!isMap(root)) throw wrong(file, 1, "expected keys and values");
    readMap(root, "", values, file, lines, new Set());
  }
  return Object.freeze(values) as Config;
}

/** The parser's own words speak of its interface to some of those who made a mistake. */
function explainSyntax(code: string, at: string): string {
  const [line = ""] = at.split("\n");
  switch (code) {
    case "DUPLICATE_KEY":
      return `${/^["']?([^"':\s]+)/.exec(line)?.[1] ?? "a key"}: stands twice in its section`;
    case "MULTIPLE_DOCS":
      return "expected one document, found another one after ---";
    case "TAB_AS_INDENT":
      return "expected spaces before the key, found a tab";
    case "BAD_INDENT":
    case "MISSING_CHAR":
      return `expected a YAML key and value, found something unfinished at ${JSON.stringify(line.slice(0, 40))}`;
    default:
      return `not YAML (${code.toLowerCase().replaceAll("_", " ")}) at ${JSON.stringify(line.slice(0, 40))}`;
  }
}

function initialOf(key: string, spec: Field<unknown>): unknown {
  const value = spec.parse(spec.initial);
  if (value === undefined) throw new Error(`the default of ${key} does not parse`);
  return value;
}

function readMap(
  map: YAMLMap,
  prefix: string,
  values: Record<string, unknown>,
  file: string,
  lines: LineCounter,
  seen: Set<string>,
): void {
  for (const pair of map.items) {
    const name = isScalar(pair.key) ? String(pair.key.value) : "";
    const offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
    const { line } = lines.linePos(offset);
    const key = prefix + name;
    if (isMap(pair.value)) {
      if (!Object.keys(KEYS).some((known) => known.startsWith(`${key}.`))) throw wrong(file, line, unknownKey(key));
      readMap(pair.value, `${key}.`, values, file, lines, seen);
      continue;
    }
    if (!Object.hasOwn(KEYS, key)) {
      // A section whose keys are all commented out.
      if (
        isScalar(pair.value) &&
        pair.value.value === null &&
        Object.keys(KEYS).some((known) => known.startsWith(`${key}.`))
      )
        continue;
      throw wrong(file, line, unknownKey(key));
    }
    // Once in its section, and once more with a dot.
    if (seen.has(key)) throw wrong(file, line, `${key}: stands twice`);
    seen.add(key);
    const spec: Field<unknown> = KEYS[key as ConfigKey];
    const raw = isScalar(pair.value) ? pair.value.value : (pair.value as { toJSON?(): unknown } | null)?.toJSON?.();
    const value = spec.parse(raw ?? "");
    if (value === undefined) throw wrong(file, line, `${key}: expected ${spec.expects}, found ${JSON.stringify(raw)}`);
    values[key] = value;
  }
}

function unknownKey(key: string): string {
  const known = Object.keys(KEYS);
  const near = known.find((each) => each.toLowerCase() === key.toLowerCase() || each.endsWith(`.${key}`));
  if (near !== undefined) return `${key}: unknown key; did you mean ${near}?`;
  if (known.some((each) => each.startsWith(`${key}.`))) return `${key}: expected keys beneath it, found a value`;
  const section = key.slice(0, Math.max(0, key.lastIndexOf(".")));
  const inside = known.filter((each) => each.startsWith(`${section}.`)).map((each) => each.slice(section.length + 1));
  const sections = [...new Set(known.map((each) => each.slice(0, each.indexOf("."))))];
  return `${key}: unknown key; expected ${inside.length > 0 ? `one of ${inside.join(", ")}` : `a section: ${sections.join(", ")}`}`;
}

function wrong(file: string, line: number, what: string): CommandError {
  return new CommandError(EXIT.configuration, `${file}:${line}: ${what}`, "mesh-agent config keys lists every key");
}
