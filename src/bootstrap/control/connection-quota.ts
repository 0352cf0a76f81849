import type { Socket } from "node:net";
import type { Millis } from "../../proxy/core/clock.ts";
import { sourceKey } from "./source-key.ts";

export interface ConnectionQuotaOptions {
  /** Connections at once from one source that have not proved an identity. */
  readonly maxStrangers: number;
  /** Connections at once of one certificate. */
  readonly maxPerPeer: number;
  readonly now: () => Millis;
}

// As many sources as a botnet of some size; the one shunned first is forgotten first.
const MAX_SHUNNED = 10_000;

/** Who may hold how many connections: one source, or one host that went bad, must not use up the room of all. */
export class ConnectionQuota {
  readonly #options: ConnectionQuotaOptions;
  readonly #strangers = new Map<string, Set<Socket>>();
  readonly #peers = new Map<string, Set<Socket>>();
  /** Until when nothing of a source's strangers is served. */
  readonly #shunned = new Map<string, Millis>();
  /** Ends that count, by the connection's addresses: a TLS socket does not name the one it wraps. */
  readonly #releases = new Map<string, () => void>();

  constructor(options: ConnectionQuotaOptions) {
    this.#options = options;
  }

  /** Counts a connection against its source until it closes, or {@link leave}s. @returns whether there is room. */
  admit(socket: Socket): boolean {
    const source = sourceKey(socket.remoteAddress ?? "");
    if (this.#isShunned(source)) return false;
    const known = this.#strangers.get(source) ?? new Set();
    if (known.size >= this.#options.maxStrangers) return false;
    this.#strangers.set(source, known.add(socket));
    const connection = tuple(socket);
    const release = () => {
      if (!this.#releases.delete(connection)) return;
      known.delete(socket);
      if (known.size === 0) this.#strangers.delete(source);
    };
    this.#releases.set(connection, release);
    socket.once("close", release);
    return true;
  }

  /** The connection is no stranger's any more. */
  leave(socket: Socket): void {
    this.#releases.get(tuple(socket))?.();
  }

  /** Counts a connection against a certificate until it closes. @returns whether there is room. */
  prove(socket: Socket, certificate: string): boolean {
    this.leave(socket);
    if (this.#isShunned(certificate)) return false;
    const known = this.#peers.get(certificate) ?? new Set();
    if (known.size >= this.#options.maxPerPeer) return false;
    this.#peers.set(certificate, known.add(socket));
    socket.once("close", () => {
      known.delete(socket);
      if (known.size === 0) this.#peers.delete(certificate);
    });
    return true;
  }

  /** Cuts a source's strangers, and takes no more of them for a while. Those with an identity go on. */
  shunSource(address: string, ms: Millis): void {
    const source = sourceKey(address);
    this.#shun(source, ms, this.#strangers.get(source));
  }

  /** The same for whoever shows one certificate. */
  shunPeer(certificate: string, ms: Millis): void {
    this.#shun(certificate, ms, this.#peers.get(certificate));
  }

  #shun(key: string, ms: Millis, open: ReadonlySet<Socket> = new Set()): void {
    this.#shunned.delete(key);
    this.#shunned.set(key, this.#options.now() + ms);
    if (this.#shunned.size > MAX_SHUNNED) {
      for (const oldest of this.#shunned.keys()) {
        this.#shunned.delete(oldest);
        break;
      }
    }
    for (const socket of [...open]) socket.destroy();
  }

  #isShunned(key: string): boolean {
    const until = this.#shunned.get(key);
    if (until === undefined) return false;
    if (this.#options.now() < until) return true;
    this.#shunned.delete(key);
    return false;
  }
}

function tuple(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}
