import type { SocketAddress } from "../proxy/core/address.ts";
import type { Clock } from "../proxy/core/clock.ts";
import type { Logger } from "../proxy/core/log.ts";
import type { MetricsRegistry } from "../proxy/core/metrics.ts";
import { DnsStub, Names } from "./dns/index.ts";
import type { Store } from "./store.ts";

const FILE = "names.json";
// A name is looked up far more often than it changes.
const SAVE_MS = 30_000;

export interface NameServiceOptions {
  readonly resolve: ConstructorParameters<typeof Names>[0]["resolve"];
  readonly clusterDomain: () => string | undefined;
  /** Milliseconds. */
  readonly maxStaleMs: number;
  readonly clock: Clock;
  readonly store: Store;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  /** When no more names will be asked for. */
  readonly closed: () => void;
}

/** The DNS stub with its memory on disk and its counters. */
export class NameService {
  readonly #options: NameServiceOptions;
  readonly #names: Names;
  readonly #stub: DnsStub;
  readonly #saving: NodeJS.Timeout;

  constructor(options: NameServiceOptions) {
    const { resolve, clusterDomain, clock, maxStaleMs, store, metrics, log } = options;
    this.#options = options;
    this.#names = new Names({ resolve, clusterDomain, clock, maxStaleMs, stored: read(store) });
    const counter = (result: string) => metrics.counter("mesh_agent_dns_queries_total", { result });
    const counters = {
      answered: counter("answered"),
      none: counter("none"),
      failed: counter("failed"),
      refused: counter("refused"),
      malformed: counter("malformed"),
    };
    this.#stub = new DnsStub({ names: this.#names, log, count: (outcome) => counters[outcome].add(1) });
    this.#saving = setInterval(() => this.#save(), SAVE_MS);
    this.#saving.unref();
  }

  /** @throws Error if an address cannot be had. */
  async listen(fds: readonly number[], addresses: readonly SocketAddress[]): Promise<void> {
    const bound = await this.#stub.listen(fds, addresses);
    for (const { ip, port } of bound) this.#options.log.info("answering DNS for the cluster domain", { ip, port });
  }

  /** Addresses of a name of the cluster, remembered ones while the enroller is away; empty if there are none. */
  async addresses(name: string): Promise<readonly string[]> {
    const answer = await this.#names.lookup(name);
    return answer.kind === "found" ? answer.addresses : [];
  }

  close(): void {
    clearInterval(this.#saving);
    this.#save();
    this.#stub.close();
    this.#options.closed();
  }

  #save(): void {
    if (!this.#names.changed) return;
    try {
      this.#options.store.write(FILE, this.#names.save());
    } catch (error) {
      this.#options.log.warn("names could not be stored", { why: (error as Error).message });
    }
  }
}

function read(store: Store): string | undefined {
  try {
    return store.read(FILE)?.toString();
  } catch {
    // Unreadable is as good as absent: the names are asked for again.
    return undefined;
  }
}
