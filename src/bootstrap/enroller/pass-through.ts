import net, { type Socket } from "node:net";
import type { Millis } from "../../proxy/core/clock.ts";
import { type Log, sourceKey } from "../control/index.ts";

/** The proxy port of a destination pod: what is inside the TLS stream says whether 8086 or 8090 is meant. */
const PROXY_PORT = 4143;

export interface PassThroughOptions {
  /** Addresses of ready destination pods. */
  readonly pods: () => readonly string[];
  readonly log: Log;
  /** For each pod that is tried; at most {@link MAX_ATTEMPTS} are. */
  readonly connectTimeoutMs: Millis;
  /** Connections at once, and of those from one source. */
  readonly maxConnections: number;
  readonly maxPerSource?: number;
  readonly port?: number;
}

const MAX_ATTEMPTS = 3;

/**
 * Carries mesh TLS to the control plane for hosts that cannot reach pod addresses. Nothing is terminated and nothing
 * read: both ends prove themselves to each other, and to the pod we are a router.
 */
export class PassThrough {
  readonly #options: PassThroughOptions;
  readonly #open = new Set<Socket>();
  /** Anybody may ask to be carried: who they are is judged at the other end. */
  readonly #sources = new Map<string, number>();
  #turn = 0;

  constructor(options: PassThroughOptions) {
    this.#options = options;
  }

  /** Takes a socket none of whose bytes have been consumed. Destroys it if no pod takes the connection. */
  carry(client: Socket): void {
    const { maxConnections, maxPerSource = maxConnections } = this.#options;
    const source = sourceKey(client.remoteAddress ?? "");
    const count = this.#sources.get(source) ?? 0;
    if (this.#open.size >= maxConnections || count >= maxPerSource) {
      client.destroy();
      return;
    }
    this.#open.add(client);
    this.#sources.set(source, count + 1);
    client.once("close", () => {
      this.#open.delete(client);
      const left = (this.#sources.get(source) ?? 1) - 1;
      if (left === 0) this.#sources.delete(source);
      else this.#sources.set(source, left);
    });
    // In turn: streams last an hour, and should not all end on the first pod of a sorted list.
    const pods = this.#options.pods();
    const from = pods.length === 0 ? 0 : this.#turn++ % pods.length;
    this.#attempt(client, [...pods.slice(from), ...pods.slice(0, from)].slice(0, MAX_ATTEMPTS));
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
  }

  #attempt(client: Socket, pods: readonly string[]): void {
    const [pod, ...rest] = pods;
    if (client.destroyed) return;
    if (pod === undefined) {
      this.#options.log.warn({}, "no destination pod takes a connection");
      client.destroy();
      return;
    }
    const server = net.connect({
      host: pod,
      port: this.#options.port ?? PROXY_PORT,
      allowHalfOpen: true,
      noDelay: true,
    });
    const giveUp = () => server.destroy();
    client.once("close", giveUp);
    server.setTimeout(this.#options.connectTimeoutMs, () => server.destroy(new Error("connect timed out")));
    const failed = (error?: Error) => {
      server.off("error", failed);
      server.off("close", closed);
      client.off("close", giveUp);
      server.on("error", () => {});
      server.destroy();
      this.#options.log.debug({ pod, error: error?.message }, "destination pod does not take a connection");
      this.#attempt(client, rest);
    };
    const closed = () => failed();
    server.once("error", failed);
    server.once("close", closed);
    server.once("connect", () => {
      server.setTimeout(0);
      server.off("error", failed);
      server.off("close", closed);
      // Either side's reset or close is the other's; half-closes pass through `pipe`, which ends after the last byte.
      server.on("error", () => client.destroy());
      server.once("close", () => client.destroy());
      client.pipe(server);
      server.pipe(client);
    });
  }
}
