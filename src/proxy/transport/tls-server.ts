import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { WorkloadIdentity } from "../core/identity.ts";
import type { Logger } from "../core/log.ts";
import { carriedBy } from "./abort.ts";
import { proofOf, secureContextOptions, TRANSPORT_ALPN } from "./tls-identity.ts";

// hardening T10: every stage of a handshake ends within 10 s. Linkerd has no limit here.
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** A connection on which mesh TLS was terminated. */
export interface Terminated {
  readonly socket: TLSSocket;
  /** The client's first SAN; undefined for an anonymous client. */
  readonly identity: string | undefined;
  /** The further names in its certificate, in their order. */
  readonly otherNames: readonly string[];
  /** Whether the transport header's ALPN was negotiated. */
  readonly transportHeader: boolean;
}

/** Told how a handshake ended: exactly one of the two, at most once; neither if the client just goes away. */
export interface HandshakeWaiter {
  terminated(result: Terminated): void;
  refused(why: string): void;
}

interface Waiting {
  readonly waiter: HandshakeWaiter;
  readonly carrier: Socket;
}

/**
 * Terminates mesh TLS on sockets that were accepted and peeked elsewhere. Two servers, because the application ports
 * select no ALPN and the direct port insists on one.
 */
export class TlsTerminator {
  readonly #plain: Server;
  readonly #direct: Server;
  readonly #waiting = new Map<string, Waiting>();
  readonly #log: Logger;

  constructor(identity: WorkloadIdentity, log: Logger, groups?: string) {
    this.#log = log;
    const options = {
      ...secureContextOptions(identity, groups),
      requestCert: true,
      // The certificate is judged by policy; `authorized` says whether it verified.
      rejectUnauthorized: false,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      allowHalfOpen: true,
      noDelay: true,
    };
    this.#plain = this.#prepare(createServer(options));
    // Offered and not chosen is a fatal no_application_protocol alert (RFC 7301 §3.2), as from a stock proxy.
    this.#direct = this.#prepare(createServer({ ...options, ALPNProtocols: [TRANSPORT_ALPN] }));
  }

  /** New handshakes use the new identity; connections that exist keep theirs. */
  update(identity: WorkloadIdentity, groups?: string): void {
    this.#plain.setSecureContext(secureContextOptions(identity, groups));
    this.#direct.setSecureContext(secureContextOptions(identity, groups));
  }

  /** @param first - What was read from the socket so far, ClientHello included. */
  terminate(socket: Socket, first: Buffer, direct: boolean, waiter: HandshakeWaiter): void {
    const key = keyOf(socket);
    if (key === undefined) {
      socket.destroy();
      return;
    }
    this.#waiting.set(key, { waiter, carrier: socket });
    socket.once("close", () => this.#waiting.delete(key));
    socket.unshift(first);
    (direct ? this.#direct : this.#plain).emit("connection", socket);
  }

  #prepare(server: Server): Server {
    server.on("secureConnection", (socket: TLSSocket) => this.#done(socket));
    server.on("tlsClientError", (error: Error, socket: TLSSocket) => {
      const waiting = this.#take(socket);
      this.#log.debug("mesh TLS handshake failed", { client: socket.remoteAddress, why: error.message });
      socket.destroy();
      waiting?.waiter.refused(error.message);
    });
    return server;
  }

  #done(socket: TLSSocket): void {
    socket.on("error", () => {});
    const waiting = this.#take(socket);
    if (waiting === undefined) {
      socket.destroy();
      return;
    }
    const { waiter } = waiting;
    carriedBy(socket, waiting.carrier);
    const proof = proofOf(socket);
    if (proof.kind === "refused") {
      socket.destroy();
      waiter.refused(proof.why);
      return;
    }
    waiter.terminated({
      socket,
      identity: proof.kind === "identity" ? proof.names[0] : undefined,
      otherNames: proof.kind === "identity" ? proof.names.slice(1) : [],
      transportHeader: socket.alpnProtocol === TRANSPORT_ALPN,
    });
  }

  #take(socket: TLSSocket): Waiting | undefined {
    const key = keyOf(socket);
    if (key === undefined) return undefined;
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    return waiting;
  }
}

// The TLS server hands over a socket of its own; the connection's four-tuple ties it to the one that was peeked.
function keyOf(socket: Socket): string | undefined {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  return remoteAddress === undefined || localAddress === undefined
    ? undefined
    : `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
