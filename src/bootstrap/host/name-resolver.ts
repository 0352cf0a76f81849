import type { IdentitySource } from "../../proxy/core/identity.ts";
import { BootstrapError, EnrollerClient, enrollerName, type MeshNames } from "../control/index.ts";

export interface NameResolverOptions {
  /** In the order to try. Read at every new connection. */
  readonly enrollers: () => readonly string[];
  readonly mesh: MeshNames;
  readonly identity: IdentitySource;
  /** For one question, all addresses together. Milliseconds. */
  readonly timeoutMs: number;
}

/** A name of the cluster, as the enroller sees it. */
export interface ResolvedName {
  readonly exists: boolean;
  readonly addresses: readonly string[];
  /** SRV records, all of one priority and weight; none from an enroller that does not know them yet. */
  readonly services: readonly { readonly port: number; readonly target: string }[];
  readonly ttlSeconds: number;
}

/** Asks the enroller for names of the cluster, over one connection that is kept; another address if one fails. */
export class NameResolver {
  readonly #options: NameResolverOptions;
  #client: EnrollerClient | undefined;
  #turn = 0;

  constructor(options: NameResolverOptions) {
    this.#options = options;
  }

  /** @throws BootstrapError if no enroller answers in time. */
  async resolve(name: string): Promise<ResolvedName> {
    const { enrollers, timeoutMs } = this.#options;
    const attempts = Math.min(2, enrollers().length);
    let failure = new BootstrapError("unreachable", "no enroller is known");
    for (let attempt = 0; attempt < attempts; attempt++) {
      const client = this.#connected();
      try {
        const { exists, addresses, services, ttlSeconds } = await client.resolve({ name }, timeoutMs / attempts);
        return { exists, addresses, services, ttlSeconds };
      } catch (error) {
        if (!(error instanceof BootstrapError)) throw error;
        failure = error;
        // Also where the connection's certificate has ended: the next one shows the renewed one.
        this.#drop(client);
      }
    }
    throw failure;
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  #connected(): EnrollerClient {
    if (this.#client !== undefined) return this.#client;
    const { enrollers, mesh, identity } = this.#options;
    const addresses = enrollers();
    const address = addresses[this.#turn % addresses.length] ?? "";
    this.#client = new EnrollerClient(address, {
      serverName: enrollerName(mesh),
      trustAnchorsPem: () => identity.current()?.trustAnchorsPem ?? [],
      certificate: () => identity.current(),
    });
    return this.#client;
  }

  /** Several questions may fail on one connection: it is dropped once. */
  #drop(client: EnrollerClient): void {
    if (this.#client !== client) return;
    this.close();
    this.#turn++;
  }
}
