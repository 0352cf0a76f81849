import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import type { SocketAddress } from "../../proxy/core/address.ts";
import type { Logger } from "../../proxy/core/log.ts";
import { decodeQuery, encodeReply, NAME_ERROR, type Query, REFUSED, SERVER_FAILURE } from "./message.ts";
import type { NameAnswer, Names } from "./names.ts";
import { socketKind } from "./socket-kind.ts";

// TCP is for the rare answer that does not fit into a datagram.
const MAX_STREAMS = 64;
const STREAM_IDLE_MS = 10_000;
// Queries of one stream that wait for an answer; more are read when these are done.
const MAX_WAITING = 16;
const MAX_QUERY_BYTES = 4096;

const NOTHING = { addresses: [], services: [], ttlSeconds: 0 } as const;

/** Where queries come in, by name of the outcome: for metrics. */
export type Outcome = "answered" | "none" | "failed" | "refused" | "malformed";

export interface DnsStubOptions {
  readonly names: Names;
  readonly log: Logger;
  readonly count?: (outcome: Outcome) => void;
}

/** Answers queries for the cluster domain over UDP and TCP, and refuses all others: it is nobody's resolver. */
export class DnsStub {
  readonly #options: DnsStubOptions;
  readonly #datagrams: UdpSocket[] = [];
  readonly #servers: Server[] = [];
  readonly #streams = new Set<Socket>();
  #turn = 0;

  constructor(options: DnsStubOptions) {
    this.#options = options;
  }

  /**
   * Serves sockets that were passed in, datagram or stream, and addresses of its own, both over UDP and TCP.
   * @returns where it listens.
   * @throws Error if an address cannot be had; nothing is left listening then.
   */
  async listen(fds: readonly number[], addresses: readonly SocketAddress[]): Promise<readonly SocketAddress[]> {
    const bound: SocketAddress[] = [];
    try {
      for (const fd of fds) {
        const kind = socketKind(fd);
        if (kind === "tcp") await this.#serveStreams({ fd });
        else if (kind !== undefined) bound.push(await this.#serveDatagrams(kind, { fd }));
        else this.#options.log.warn("a socket passed in for DNS is neither UDP nor TCP", { fd });
      }
      for (const { ip, port } of addresses) {
        const at = await this.#serveDatagrams(ip.includes(":") ? "udp6" : "udp4", { address: ip, port });
        bound.push(at);
        await this.#serveStreams({ host: ip, port: at.port });
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return bound;
  }

  close(): void {
    for (const socket of this.#datagrams.splice(0)) socket.close();
    for (const server of this.#servers.splice(0)) server.close();
    for (const stream of this.#streams) stream.destroy();
  }

  #serveDatagrams(
    type: "udp4" | "udp6",
    where: { readonly fd: number } | { readonly address: string; readonly port: number },
  ): Promise<SocketAddress> {
    const socket = createSocket({ type, ipv6Only: type === "udp6" });
    socket.on("message", (message, peer) => {
      void this.#reply(message, false, (reply) => {
        // Closed meanwhile, or a client that has gone: a datagram owes nobody an answer.
        if (this.#datagrams.includes(socket)) socket.send(reply, peer.port, peer.address, () => {});
      });
    });
    return new Promise((resolve, reject) => {
      socket.once("error", (error) => {
        socket.close();
        reject(error);
      });
      socket.bind(where, () => {
        socket.removeAllListeners("error");
        // A client that closed its socket answers with ICMP: nobody's problem.
        socket.on("error", (error) => this.#options.log.debug("DNS socket", { why: error.message }));
        this.#datagrams.push(socket);
        const { address, port } = socket.address();
        resolve({ ip: address, port });
      });
    });
  }

  #serveStreams(where: { readonly fd: number } | { readonly host: string; readonly port: number }): Promise<void> {
    const server = createServer({ noDelay: true }, (stream) => this.#stream(stream));
    server.maxConnections = MAX_STREAMS;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(where, () => {
        server.off("error", reject);
        server.on("error", (error) => this.#options.log.warn("DNS listener", { why: error.message }));
        this.#servers.push(server);
        resolve();
      });
    });
  }

  /** Messages on a stream, each after its length in two bytes (RFC 1035 §4.2.2), answered as they are ready. */
  #stream(stream: Socket): void {
    this.#streams.add(stream);
    stream.on("error", () => stream.destroy());
    stream.once("close", () => this.#streams.delete(stream));
    stream.setTimeout(STREAM_IDLE_MS, () => stream.destroy());
    let seen: Buffer = Buffer.alloc(0);
    let waiting = 0;
    const next = () => {
      while (seen.length >= 2 && waiting < MAX_WAITING) {
        const length = seen.readUInt16BE(0);
        if (length > MAX_QUERY_BYTES) {
          stream.destroy();
          return;
        }
        if (seen.length < 2 + length) break;
        const message = seen.subarray(2, 2 + length);
        seen = seen.subarray(2 + length);
        waiting++;
        void this.#reply(message, true, (reply) => {
          const prefix = Buffer.alloc(2);
          prefix.writeUInt16BE(reply.length, 0);
          if (stream.writable) stream.write(Buffer.concat([prefix, reply]));
        }).then(() => {
          waiting--;
          next();
        });
      }
      // A client that reads no answers gets no more of them.
      if (waiting >= MAX_WAITING || stream.writableLength > 0xffff) stream.pause();
      else stream.resume();
    };
    stream.on("data", (chunk: Buffer) => {
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      next();
    });
    stream.on("drain", next);
  }

  async #reply(message: Buffer, stream: boolean, send: (reply: Buffer) => void): Promise<void> {
    const { names, count } = this.#options;
    const query = decodeQuery(message);
    if (query === undefined || Buffer.isBuffer(query)) {
      count?.("malformed");
      if (query !== undefined) send(query);
      return;
    }
    if (!names.covers(query.name)) {
      count?.("refused");
      send(encodeReply(query, { ...NOTHING, code: REFUSED, zone: undefined }, stream));
      return;
    }
    const answer = await names.lookup(query.name);
    count?.(answer.kind === "found" ? "answered" : answer.kind);
    send(encodeReply(query, this.#replyOf(answer, query), stream));
  }

  #replyOf(answer: NameAnswer, query: Query) {
    const { zone } = this.#options.names;
    switch (answer.kind) {
      case "found": {
        // In turn: clients take the first.
        const { addresses, services, ttlSeconds } = answer;
        const turn = addresses.length + services.length < 2 ? 0 : this.#turn++;
        return { code: 0, addresses: from(addresses, turn), services: from(services, turn), ttlSeconds, zone } as const;
      }
      case "none":
        return { ...NOTHING, code: NAME_ERROR, zone } as const;
      case "failed":
        this.#options.log.debug("a name could not be resolved", { name: query.name });
        return { ...NOTHING, code: SERVER_FAILURE, zone: undefined } as const;
      default:
        return answer satisfies never;
    }
  }
}

/** A list begun elsewhere. */
function from<T>(list: readonly T[], turn: number): readonly T[] {
  const at = list.length === 0 ? 0 : turn % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}
