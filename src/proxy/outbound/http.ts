import type { Socket } from "node:net";
import type { SocketAddress } from "../core/address.ts";
import type { OutboundHandle } from "../discovery/index.ts";
import { type Client, type OutboundPolicy, outboundHttp } from "../policy/index.ts";
import { compose, type Peer, record, rescue, type Stack } from "../stack/index.ts";
import { Http1ServerConnection } from "../transport/http1-server.ts";
import { Http2ServerConnection } from "../transport/http2-server.ts";
import { deadline } from "./deadline.ts";
import type { OutboundDeps } from "./deps.ts";
import { Backends, distributed } from "./distribute.ts";
import { retry } from "./retry.ts";
import { authority, filtered, routed } from "./route.ts";

/** How the application's HTTP to one original destination is routed: the stack and the backends behind it. */
export class OutboundHttp {
  readonly #deps: OutboundDeps;
  readonly #handle: OutboundHandle;
  readonly #originalDst: SocketAddress;
  readonly #version: "1" | "2";
  readonly #stack: Stack;
  readonly #backends: Backends;
  readonly #unsubscribe: () => void;
  /**
   * The latest policy with routes for HTTP: where a Service becomes opaque, connections that are open go on (outbound.md
   * §1.7.5).
   */
  #policy: OutboundPolicy | undefined;

  constructor(deps: OutboundDeps, handle: OutboundHandle, originalDst: SocketAddress, version: "1" | "2") {
    this.#deps = deps;
    this.#handle = handle;
    this.#originalDst = originalDst;
    this.#version = version;
    this.#backends = new Backends(deps, handle, version);
    // Read top to bottom.
    this.#stack = compose(
      [
        record(deps.recorder),
        rescue({ informs: () => true }), // the one place where an error becomes an answer
        authority(originalDst), // HTTP/1 without Host means whom it dialled
        routed(() => this.#policy, version, deps.recorder), // one decision, which later layers only read
        retry(deps, (x) => this.#backends.isReady(x)), // attempts, each an exchange of its own; the rest passes through
        filtered(deps), // the route's filters
        deadline(deps.runtime.clock), // the route's timeouts
      ],
      distributed(this.#backends, deps), // weighted backends; each balances, or forwards
    );
    this.#reconcile();
    this.#unsubscribe = handle.subscribe({ changed: () => this.#reconcile() });
  }

  serve(socket: Socket, client: Client, address: SocketAddress, first: Buffer | undefined, onClosed: () => void): void {
    const { runtime, connections } = this.#deps;
    const peer: Peer = { address, originalDst: this.#originalDst, client };
    const meter = this.#deps.meters.accepted(this.#originalDst);
    const closed = (connection: Http1ServerConnection | Http2ServerConnection) => {
      connections.delete(connection);
      onClosed();
    };
    const connection =
      this.#version === "1"
        ? new Http1ServerConnection(socket, runtime, meter, peer, this.#stack, (c) =>
            closed(c as Http1ServerConnection),
          )
        : new Http2ServerConnection(socket, runtime, meter, peer, this.#stack, {}, (c) =>
            closed(c as Http2ServerConnection),
          );
    connections.add(connection);
    connection.start(first);
  }

  close(): void {
    this.#unsubscribe();
    this.#backends.keep(undefined);
  }

  /** Backends live as long as the policy names them; those it names first are set up before a request needs them. */
  #reconcile(): void {
    const policy = this.#handle.current?.policy;
    const routes = policy && outboundHttp(policy, this.#version === "2" ? "2" : "1.1");
    if (policy !== undefined && routes === undefined) return;
    this.#policy = policy;
    this.#backends.keep(routes);
  }
}
