import { canonicalIp } from "../../proxy/core/address.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import type { KubeClient } from "./kubernetes.ts";
import { ENDPOINT_SLICES, type EndpointSlice, SERVICES, type Service } from "./resources.ts";

/** What the cluster's DNS would say about a name. */
export interface Resolution {
  readonly exists: boolean;
  readonly addresses: readonly string[];
  /** Where a port of a Service is served; a target is a full name without the last dot. */
  readonly services: readonly { readonly port: number; readonly target: string }[];
}

/** As CoreDNS gives for cluster names by default. */
export const RESOLVE_TTL_SECONDS = 30;
const CACHE_MS = 5000;
const CACHE_SIZE = 2000;
const MAX_RECORDS = 256;
const NOTHING: Resolution = { exists: false, addresses: [], services: [] };
const EMPTY: Resolution = { exists: true, addresses: [], services: [] };
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const PORT_LABEL = /^_[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const PROTOCOL_LABEL = /^_(?:tcp|udp|sctp)$/;

/**
 * Answers `SERVICE.NS.svc.CD`, for headless Services `HOST.SERVICE.NS.svc.CD`, and `_PORT._PROTOCOL.SERVICE.NS.svc.CD`, by
 * the rules of Kubernetes' DNS specification (1.1.0 §2.3, §2.4), from the API and a short cache. An endpoint without a
 * hostname is called by its address, with dashes, as CoreDNS does.
 */
export class Resolver {
  readonly #client: KubeClient;
  readonly #cache = new Map<string, { readonly until: Millis; readonly answer: Promise<Resolution> }>();

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** @throws KubeError if the API server cannot be asked. */
  resolve(name: string, clusterDomain: string, now: Millis): Promise<Resolution> {
    const plain = name.toLowerCase().replace(/\.$/, "");
    const suffix = `.svc.${clusterDomain}`;
    if (!plain.endsWith(suffix) || plain.length > 253) return Promise.resolve(NOTHING);
    const labels = plain.slice(0, -suffix.length).split(".");
    const [namespace = "", service = "", ...within] = labels.reverse();
    if (labels.length < 2 || !LABEL.test(namespace) || !LABEL.test(service) || !isWithin(within)) {
      return Promise.resolve(NOTHING);
    }
    const known = this.#cache.get(plain);
    if (known !== undefined && now < known.until) return known.answer;
    const answer = this.#ask(namespace, service, within, suffix);
    this.#cache.delete(plain);
    this.#cache.set(plain, { until: now + CACHE_MS, answer });
    // A failure is not remembered.
    answer.catch(() => this.#cache.delete(plain));
    if (this.#cache.size > CACHE_SIZE) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    return answer;
  }

  async #ask(namespace: string, name: string, within: readonly string[], suffix: string): Promise<Resolution> {
    const service = await this.#client.get<Service>(SERVICES, namespace, name);
    // An ExternalName would be a CNAME to a name outside: not ours to answer.
    if (service === undefined || service.spec?.type === "ExternalName") return NOTHING;
    const { clusterIP, clusterIPs } = service.spec ?? {};
    const [first, second] = within;
    const own = `${name}.${namespace}${suffix}`;
    if (first?.startsWith("_") === true) {
      // There are names beneath it (RFC 8020).
      if (second === undefined) return EMPTY;
      const wanted = { name: second.slice(1), protocol: first.slice(1).toUpperCase() };
      const declared = service.spec?.ports?.find((port) => isPort(port, wanted));
      if (declared === undefined) return NOTHING;
      if (clusterIP !== "None") return { ...EMPTY, services: [{ port: declared.port, target: own }] };
      return { ...EMPTY, services: portRecords(await this.#slices(namespace, name), wanted, own) };
    }
    if (clusterIP !== "None") {
      if (first !== undefined) return NOTHING;
      return { ...EMPTY, addresses: usable(clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP])) };
    }
    const addresses = (await this.#slices(namespace, name))
      .flatMap(hostsOf)
      .filter(({ host }) => first === undefined || host === first)
      .map(({ address }) => address);
    return { ...EMPTY, exists: first === undefined || addresses.length > 0, addresses: usable(addresses) };
  }

  #slices(namespace: string, service: string): Promise<readonly EndpointSlice[]> {
    return this.#client.list<EndpointSlice>(ENDPOINT_SLICES, namespace, `kubernetes.io/service-name=${service}`);
  }
}

/** What may stand before a Service's name, from the right: nothing, a host, or a protocol and perhaps a port. */
function isWithin([first, second, ...more]: readonly string[]): boolean {
  if (more.length > 0) return false;
  if (first === undefined) return true;
  if (second === undefined) return LABEL.test(first) || PROTOCOL_LABEL.test(first);
  return PROTOCOL_LABEL.test(first) && PORT_LABEL.test(second);
}

interface NamedPort {
  readonly name?: string;
  readonly protocol?: string;
}

function isPort({ name, protocol = "TCP" }: NamedPort, wanted: Required<NamedPort>): boolean {
  return name === wanted.name && protocol === wanted.protocol;
}

/** Ready endpoints, each by the name that it has under its Service. */
function hostsOf({ endpoints = [] }: EndpointSlice): readonly { readonly host: string; readonly address: string }[] {
  return endpoints
    .filter(({ conditions }) => conditions?.ready !== false)
    .flatMap(({ hostname, addresses = [] }) =>
      addresses.map((address) => ({ host: hostname ?? address.replaceAll(/[.:]/g, "-"), address })),
    );
}

function portRecords(
  slices: readonly EndpointSlice[],
  wanted: Required<NamedPort>,
  own: string,
): Resolution["services"] {
  const records = new Map<string, Resolution["services"][number]>();
  for (const slice of slices) {
    const port = slice.ports?.find((each) => isPort(each, wanted))?.port;
    if (port === undefined) continue;
    // One with addresses of both families is one target.
    for (const { host } of hostsOf(slice)) records.set(`${host} ${port}`, { port, target: `${host}.${own}` });
  }
  return [...records.keys()]
    .sort()
    .slice(0, MAX_RECORDS)
    .flatMap((key) => records.get(key) ?? []);
}

function usable(addresses: readonly string[]): readonly string[] {
  const canonical = addresses.map(canonicalIp).filter((ip) => ip !== undefined);
  return [...new Set(canonical)].sort().slice(0, MAX_RECORDS);
}
