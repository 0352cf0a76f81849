import { Client } from "@grpc/grpc-js";
import { CHANNEL_OPTIONS, grpcTarget, meshCredentials } from "../bootstrap/control/index.ts";
import type { IdentitySource } from "../proxy/core/identity.ts";
import type { GrpcClient } from "../proxy/discovery/index.ts";

/** Where one service of the control plane is at the moment. */
export interface ServiceLocation {
  /** `host:port`; empty while none is known. */
  readonly addresses: readonly string[];
  readonly tlsName: string;
}

/** A connection to one service of the control plane that follows its address and our identity. */
export class ControlPlaneClient {
  readonly #identity: IdentitySource;
  readonly #locate: () => ServiceLocation;
  /** Set when the addresses are proxy ports: which port of the peer to ask for. */
  readonly #throughPort: number | undefined;
  #client: Client | undefined;
  #target = "";
  #next = 0;

  constructor(identity: IdentitySource, locate: () => ServiceLocation, throughPort: number | undefined) {
    this.#identity = identity;
    this.#locate = locate;
    this.#throughPort = throughPort;
  }

  /** The client to call on; undefined while nothing is known to call. */
  readonly get = (): GrpcClient | undefined => {
    const { addresses, tlsName } = this.#locate();
    const address = addresses[this.#next % Math.max(1, addresses.length)];
    const target = address === undefined ? undefined : grpcTarget(address);
    if (target === undefined || tlsName === "") return undefined;
    const key = `${target} ${tlsName}`;
    if (this.#client !== undefined && this.#target === key) return this.#client as unknown as GrpcClient;
    this.#client?.close();
    this.#target = key;
    this.#client = new Client(
      target,
      meshCredentials({
        serverName: tlsName,
        trustAnchorsPem: () => this.#identity.current()?.trustAnchorsPem ?? [],
        certificate: () => this.#identity.current(),
        ...(this.#throughPort === undefined ? {} : { throughPort: this.#throughPort }),
      }),
      CHANNEL_OPTIONS,
    );
    return this.#client as unknown as GrpcClient;
  };

  /** The present address fails: the next call goes to the next one. */
  rotate(): void {
    this.#next++;
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }
}
