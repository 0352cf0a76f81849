import { canonicalIp } from "../../proxy/core/address.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import type { KubeClient } from "./kubernetes.ts";
import { ENDPOINT_SLICES, type EndpointSlice, SERVICES, type Service } from "./resources.ts";

/** What the cluster's DNS would say about a name. */
export interface Resolution {
  readonly exists: boolean;
  readonly addresses: readonly string[];
}

/** As CoreDNS gives for cluster names by default. */
export const RESOLVE_TTL_SECONDS = 30;
const CACHE_MS = 5000;
const CACHE_SIZE = 2000;
const NOTHING: Resolution = { exists: false, addresses: [] };
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Answers `SERVICE.NS.svc.CD` and, for headless Services, `HOST.SERVICE.NS.svc.CD`, by the rules of Kubernetes' DNS
 * specification (1.1.0 §2.3, §2.4), from the API and a short cache.
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
    if (labels.length < 2 || labels.length > 3 || !labels.every((label) => LABEL.test(label))) {
      return Promise.resolve(NOTHING);
    }
    const known = this.#cache.get(plain);
    if (known !== undefined && now < known.until) return known.answer;
    const [namespace = "", service = "", host] = labels.reverse();
    const answer = this.#ask(namespace, service, host);
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

  async #ask(namespace: string, name: string, host: string | undefined): Promise<Resolution> {
    const service = await this.#client.get<Service>(SERVICES, namespace, name);
    // An ExternalName would be a CNAME to a name outside: not ours to answer.
    if (service === undefined || service.spec?.type === "ExternalName") return NOTHING;
    const { clusterIP, clusterIPs } = service.spec ?? {};
    if (clusterIP !== "None") {
      if (host !== undefined) return NOTHING;
      return { exists: true, addresses: usable(clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP])) };
    }
    const selector = `kubernetes.io/service-name=${name}`;
    const slices = await this.#client.list<EndpointSlice>(ENDPOINT_SLICES, namespace, selector);
    const addresses = slices
      .flatMap(({ endpoints }) => endpoints ?? [])
      .filter((endpoint) => endpoint.conditions?.ready !== false && (host === undefined || endpoint.hostname === host))
      .flatMap((endpoint) => endpoint.addresses ?? []);
    return { exists: host === undefined || addresses.length > 0, addresses: usable(addresses) };
  }
}

function usable(addresses: readonly string[]): readonly string[] {
  const canonical = addresses.map(canonicalIp).filter((ip) => ip !== undefined);
  return [...new Set(canonical)].sort().slice(0, 256);
}
