import { formatSocketAddress, isLoopback, parseIp, type SocketAddress } from "../core/address.ts";
import type { Millis } from "../core/clock.ts";
import type { Client } from "../policy/index.ts";
import type { Accepted } from "../transport/listener.ts";
import type { OutboundDeps } from "./deps.ts";
import { Destination } from "./destination.ts";
import { detect } from "./detect.ts";

// Linkerd: LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT, 5 s.
const IDLE_MS = 5_000;

/** Takes every connection that the host's programs open into the mesh. */
export class OutboundAcceptor {
  readonly #deps: OutboundDeps;
  /** Our own listening port, on loopback: a connection whose original destination it is was not intercepted, and would loop. */
  readonly #ownPort: number;
  readonly #destinations = new Map<string, Destination>();

  constructor(deps: OutboundDeps, ownPort: number) {
    this.#deps = deps;
    this.#ownPort = ownPort;
  }

  accept(accepted: Accepted): void {
    const { socket, originalDst } = accepted;
    const ip = parseIp(accepted.client.ip);
    if (ip === undefined || this.#isOurs(originalDst)) {
      socket.destroy();
      return;
    }
    const key = formatSocketAddress(originalDst);
    if (this.#deps.config.probeTargets?.has(key) === true) {
      socket.end();
      socket.resume();
      return;
    }
    const client: Client = { ip, tls: "none", id: undefined };
    const destination = this.#destination(key, accepted);
    destination.enter();
    const abandoned = () => {
      destination.handle.cancel(waiter);
      destination.leave();
    };
    const waiter = {
      ready: () => {
        socket.off("close", abandoned);
        if (socket.destroyed) return destination.leave();
        if (destination.policy === undefined) {
          this.#deps.runtime.log.info("discovery failed", {
            destination: key,
            why: destination.handle.why,
          });
          socket.destroy();
          return destination.leave();
        }
        detect(this.#deps, destination, accepted, client);
      },
    };
    socket.once("close", abandoned);
    destination.handle.wait(waiter);
  }

  /** Drops what nobody used for the idle time. Called about once a second. */
  expire(now: Millis): void {
    for (const [key, destination] of this.#destinations) {
      if (destination.unusedFor(now) < IDLE_MS) continue;
      this.#destinations.delete(key);
      destination.close();
    }
  }

  close(): void {
    for (const destination of this.#destinations.values()) destination.close();
    this.#destinations.clear();
  }

  #isOurs({ ip, port }: SocketAddress): boolean {
    const parsed = port === this.#ownPort ? parseIp(ip) : undefined;
    return parsed !== undefined && isLoopback(parsed);
  }

  #destination(key: string, accepted: Accepted): Destination {
    let destination = this.#destinations.get(key);
    if (destination === undefined) {
      destination = new Destination(this.#deps, accepted.originalDst);
      this.#destinations.set(key, destination);
    }
    return destination;
  }
}
