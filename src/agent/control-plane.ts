import { Client, connectivityState } from "@grpc/grpc-js";
import { CHANNEL_OPTIONS, grpcTarget, meshCredentials } from "../bootstrap/control/index.ts";
import type { IdentitySource } from "../proxy/core/identity.ts";
import type { MetricsRegistry } from "../proxy/core/metrics.ts";
import type { GrpcClient } from "../proxy/discovery/index.ts";
import { countCalls } from "./control-calls.ts";

/** Where one service of the control plane is at the moment. */
export interface ServiceLocation {
  /** `host:port`; empty while none is known. */
  readonly addresses: readonly string[];
  readonly tlsName: string;
}

export interface ControlPlaneClientOptions {
  readonly identity: IdentitySource;
  readonly locate: () => ServiceLocation;
  /** Set when the addresses are proxy ports: which port of the peer to ask for. */
  readonly throughPort?: number;
  readonly metrics: MetricsRegistry;
  /** There is a connection again: whatever waited out a backoff may try now. */
  readonly connected: () => void;
}

// A Service of 5,000 endpoints is 1.1 MB on the wire; grpc-js takes 4 MB unless told.
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

/** A connection to one service of the control plane that follows its addresses and our identity. */
export class ControlPlaneClient {
  readonly #options: ControlPlaneClientOptions;
  #client: Client | undefined;
  #target = "";
  #next = 0;

  constructor(options: ControlPlaneClientOptions) {
    this.#options = options;
  }

  /** The client to call on; undefined while nothing is known to call. */
  readonly get = (): GrpcClient | undefined => {
    const { addresses, tlsName } = this.#options.locate();
    const address = addresses[this.#next % Math.max(1, addresses.length)];
    const target = address === undefined ? undefined : grpcTarget(address);
    if (target === undefined || tlsName === "") return undefined;
    const key = `${target} ${tlsName}`;
    if (this.#client !== undefined && this.#target === key) return this.#client;
    this.#client?.close();
    this.#target = key;
    const client = this.#open(target, address as string, tlsName);
    this.#client = client;
    this.#watch(client, client.getChannel().getConnectivityState(false));
    return client;
  };

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  #open(target: string, address: string, tlsName: string): Client {
    const { identity, throughPort, metrics } = this.#options;
    return new Client(
      target,
      meshCredentials({
        serverName: tlsName,
        trustAnchorsPem: () => identity.current()?.trustAnchorsPem ?? [],
        certificate: () => identity.current(),
        ...(throughPort === undefined ? {} : { throughPort }),
      }),
      {
        ...CHANNEL_OPTIONS,
        interceptors: [countCalls(metrics, address, tlsName)],
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        "grpc.max_reconnect_backoff_ms": 2_000,
      },
    );
  }

  #watch(client: Client, seen: connectivityState): void {
    client.getChannel().watchConnectivityState(seen, Number.POSITIVE_INFINITY, () => {
      if (this.#client !== client) return;
      const state = client.getChannel().getConnectivityState(false);
      if (state === connectivityState.SHUTDOWN) return;
      if (state === connectivityState.READY) this.#options.connected();
      // The present address fails: the next call goes to the next one.
      if (state === connectivityState.TRANSIENT_FAILURE) this.#next++;
      this.#watch(client, state);
    });
  }
}
