/** The file, in the state directory, from which root learns what to wire. */
export const RESOLVER_FILE = "resolver.json";

/**
 * Where the stub answers: `mesh-agent-dns.socket` opens it, so that port 53 needs no privilege. A loopback address that
 * no other resolver uses (127.0.0.1 dnsmasq and unbound, 127.0.0.11 Docker, 127.0.0.53 systemd-resolved).
 */
export const STUB = "127.0.0.140";

export const WIRINGS = ["auto", "resolved", "dnsmasq", "resolv.conf", "none"] as const;

/** Written by the agent once it knows its cluster; read by root. */
export interface ResolverFile {
  readonly format: 1;
  /** The cluster domain: names beneath it are asked at the stub. */
  readonly zone: string;
  /** What the operator chose; `auto`: what the host has. */
  readonly wiring: (typeof WIRINGS)[number];
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * @param value - Parsed JSON. Its writer faces the network: what is read here ends in files that only root may write.
 * @throws Error that names the key, for anything but the three that are known.
 */
export function parseResolverFile(value: unknown): ResolverFile {
  if (typeof value !== "object" || value === null) throw new Error("expected an object");
  const { format, zone, wiring } = value as Readonly<Record<string, unknown>>;
  if (format !== 1) throw new Error("format: expected 1");
  // Not the root: a zone of everything would make us the host's resolver.
  if (typeof zone !== "string" || zone.length > 253 || !zone.split(".").every((label) => LABEL.test(label)))
    throw new Error("zone: expected a domain in lower case");
  const known = WIRINGS.find((name) => name === wiring);
  if (known === undefined) throw new Error(`wiring: expected one of ${WIRINGS.join(", ")}`);
  return { format, zone, wiring: known };
}
