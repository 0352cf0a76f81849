import { createServer, type Server, type Socket } from "node:net";
import { type SocketAddress, unmapIp } from "../core/address.ts";
import type { Logger } from "../core/log.ts";
import type { ConnectionLimits, Refusal } from "./connection-limits.ts";

/** One side of the proxy took a connection. */
export interface Accepted {
  readonly socket: Socket;
  readonly client: SocketAddress;
  /** Where the client believed it was going: under TPROXY, the socket's own local address. */
  readonly originalDst: SocketAddress;
}

export type AcceptHandler = (accepted: Accepted) => void;

/** What stands between the backlog and the handler. */
export interface Admittance {
  readonly limits: ConnectionLimits;
  /** Whether clients are told apart; else only the total counts. */
  readonly byClient: boolean;
  /** A connection was refused, by a RST: nobody waits for an answer that will not come. */
  refused(accepted: Omit<Accepted, "socket">, why: Refusal): void;
}

// Linkerd: LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE, 10 s in the chart.
const KEEP_ALIVE_MS = 10_000;

/** Accepts on a descriptor that this worker owns alone. */
export class Listener {
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  constructor(handler: AcceptHandler, log: Logger, admittance?: Admittance) {
    this.#server = createServer(
      {
        allowHalfOpen: true,
        pauseOnConnect: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_MS,
      },
      (socket) => {
        // A connection that was reset before it was accepted has no addresses (design §14): both at once, or not at all.
        const { remoteAddress, remotePort, localAddress, localPort } = socket;
        socket.on("error", ignore);
        if (
          remoteAddress === undefined ||
          localAddress === undefined ||
          remotePort === undefined ||
          localPort === undefined
        ) {
          socket.destroy();
          return;
        }
        const client = { ip: unmapIp(remoteAddress), port: remotePort };
        const originalDst = { ip: unmapIp(localAddress), port: localPort };
        const admission = admittance?.limits.admit(admittance.byClient ? client.ip : undefined);
        if (typeof admission === "string") {
          socket.resetAndDestroy();
          admittance?.refused({ client, originalDst }, admission);
          return;
        }
        this.#open.add(socket);
        socket.once("close", () => {
          this.#open.delete(socket);
          if (admission !== undefined) admittance?.limits.release(admission);
        });
        handler({ socket, client, originalDst });
      },
    );
    // Out of descriptors libuv accepts with one that it keeps in reserve, and closes; what else may fail is said and survived.
    this.#server.on("error", (error) => log.warn("accept failed", { why: error.message }));
  }

  /** @param where - A listening descriptor of our own (closed with the listener), or an address to bind. */
  listen(where: { readonly fd: number } | SocketAddress): Promise<SocketAddress> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen("fd" in where ? { fd: where.fd } : { host: where.ip, port: where.port }, () => {
        this.#server.off("error", reject);
        const address = this.#server.address();
        resolve(
          address === null || typeof address === "string"
            ? { ip: "", port: 0 }
            : { ip: unmapIp(address.address), port: address.port },
        );
      });
    });
  }

  /** Accepted sockets that are still open. */
  get connections(): number {
    return this.#open.size;
  }

  /**
   * Accepts no more; open connections stay.
   * @param onClosed - Called when the last of them is gone, whoever has it by then.
   */
  stop(onClosed: () => void = ignore): void {
    this.#server.close(onClosed);
  }

  destroyAll(): void {
    for (const socket of this.#open) socket.destroy();
  }
}

function ignore(): void {}
