import { constants, X509Certificate } from "node:crypto";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { type Cidr, cidrContains, parseIp, unmapIp } from "../../proxy/core/address.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import type { Decoded } from "../../proxy/core/machine.ts";
import { decodeProxyHeader } from "../../proxy/wire/proxy-protocol/index.ts";
import { type ClientHello, decodeClientHello } from "../../proxy/wire/tls/index.ts";
import { clientIdentity } from "./certificate.ts";
import { ConnectionQuota } from "./connection-quota.ts";
import { type Log, silentLog } from "./log.ts";
import { printable } from "./printable.ts";
import { unheardCalls } from "./unheard-calls.ts";

/** What the server shows and believes. Replace it whole with {@link MeshGrpcServer.setIdentity}. */
export interface ServerIdentity {
  readonly keyPem: string;
  /** Leaf first. May include the root, for clients that look for a pinned one. */
  readonly certificatePem: string;
  readonly trustAnchorsPem: readonly string[];
}

export interface MeshGrpcServerOptions {
  readonly identity: ServerIdentity;
  /** Registers the services. */
  readonly services: (server: Server) => void;
  /**
   * Looks at a connection before TLS: `terminate` it here, `refuse` it, or `taken`: the callee owns the socket, whose
   * bytes are all still unread. Everything is terminated unless told.
   */
  readonly route?: (hello: ClientHello, socket: net.Socket) => "terminate" | "refuse" | "taken";
  /**
   * Balancers that say with a PROXY protocol header whose connection they pass on; empty: everybody who connects is one.
   * From them a connection without a header is closed; from others a header is no TLS. Absent: there are none.
   */
  readonly balancers?: readonly Cidr[];
  /** For each: first bytes, handshake, first use without a certificate. 10 s unless told. */
  readonly patienceMs?: Millis;
  /** Connections at once, 16,384 unless told: a host has up to four. */
  readonly maxConnections?: number;
  /** Of those, from one source and without a proven identity: 512 unless told, for hosts that come back together. */
  readonly maxStrangers?: number;
  /** Of those, with one certificate: 64 unless told. */
  readonly maxPerPeer?: number;
  /** A caller that was turned away without a handler's doing. `what` is the method's path, or `handshake`. */
  readonly turnedAway?: (what: string, peer: Peer, why: string) => void;
  readonly log?: Log;
}

/** Who is calling. */
export interface Peer {
  /** First name of a certificate that the trust anchors vouch for; undefined for everyone else. */
  readonly identity: string | undefined;
  readonly certificate: X509Certificate | undefined;
  /** IP text without port, IPv4 unmapped. */
  readonly address: string;
}

/** The part of a grpc-js server call that tells who calls. */
interface CallContext {
  getPeer(): string;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined };
}

/**
 * Who makes a call. grpc-js gives the certificate only if the handshake ended `authorized`, which is the one sign that
 * counts: without it, the certificate may be anybody's forgery.
 */
export function peerOf(call: CallContext): Peer {
  const raw = call.getAuthContext().sslPeerCertificate?.raw;
  const certificate = raw === undefined ? undefined : new X509Certificate(raw);
  // `ip:port`, where an IPv6 address has no brackets: everything up to the last colon.
  const peer = call.getPeer();
  const colon = peer.lastIndexOf(":");
  return {
    identity: certificate === undefined ? undefined : clientIdentity(certificate),
    certificate,
    address: unmapIp(colon < 0 ? peer : peer.slice(0, colon)),
  };
}

/**
 * A gRPC server over mesh TLS with an **optional** client certificate, which grpc-js cannot ask for by itself. It also
 * serves clients that offer no ALPN, which Node's own HTTP/2 server refuses: the bytes are peeked at, put back, and
 * handed to a `tls.Server`; the secured socket goes to grpc-js as if it had come over a plain port.
 */
export class MeshGrpcServer {
  readonly #grpc: Server;
  readonly #tls: tls.Server;
  readonly #listener: net.Server;
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;
  readonly #sockets = new Set<net.Socket>();
  readonly #options: MeshGrpcServerOptions;
  readonly #patienceMs: number;
  readonly #quota: ConnectionQuota;
  /** Who really calls, for connections that a balancer passed on, by the addresses that the kernel knows. */
  readonly #sources = new Map<string, { readonly ip: string; readonly port: number }>();

  constructor(options: MeshGrpcServerOptions) {
    this.#options = options;
    this.#patienceMs = options.patienceMs ?? 10_000;
    this.#quota = new ConnectionQuota({
      maxStrangers: options.maxStrangers ?? 512,
      maxPerPeer: options.maxPerPeer ?? 64,
      now: () => performance.now(),
    });
    this.#grpc = new Server({
      interceptors: [
        unheardCalls((path, caller, why) =>
          options.turnedAway?.(path, typeof caller === "string" ? stranger(caller) : peerOf(caller), why),
        ),
      ],
      "grpc.max_receive_message_length": 64 * 1024,
      "grpc.max_concurrent_streams": 32,
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 5000,
    });
    options.services(this.#grpc);
    this.#injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    this.#tls = tls.createServer(
      {
        ...contextOf(options.identity),
        requestCert: true,
        // Certificates are judged by `authorized`, call by call.
        rejectUnauthorized: false,
        ALPNProtocols: ["h2"],
        handshakeTimeout: this.#patienceMs,
      },
      (socket) => this.#secured(socket),
    );
    this.#tls.on("tlsClientError", (error, socket) => {
      this.#unmask(socket);
      this.#failed(error, socket);
      socket.destroy();
    });
    this.#listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.accept(socket));
    this.#listener.maxConnections = options.maxConnections ?? 16_384;
    this.#listener.on("error", (error) =>
      (options.log ?? silentLog).error({ error: error.message }, "listener failed"),
    );
  }

  /** @returns the address in use, also for port 0. */
  listen(address: { readonly host: string; readonly port: number } | { readonly fd: number }): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#listener.once("error", reject);
      this.#listener.listen(address, () => {
        this.#listener.off("error", reject);
        resolve(this.#listener.address() as AddressInfo);
      });
    });
  }

  /** New handshakes show and believe this; established connections stay as they are. */
  setIdentity(identity: ServerIdentity): void {
    this.#tls.setSecureContext(contextOf(identity));
  }

  /** Serves a connection accepted elsewhere, none of whose bytes have been consumed. */
  accept(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#sockets.delete(socket));
    if (!this.#isBalancer(socket)) {
      this.#begin(socket);
      return;
    }
    const connection = tuple(socket);
    peek(socket, this.#patienceMs, decodeProxyHeader, ({ source }) => {
      if (source !== undefined) {
        this.#sources.set(connection, source);
        socket.once("close", () => this.#sources.delete(connection));
        rename(socket, source);
      }
      this.#begin(socket);
    });
  }

  #isBalancer(socket: net.Socket): boolean {
    const { balancers } = this.#options;
    if (balancers === undefined || balancers.length === 0) return balancers !== undefined;
    const ip = parseIp(socket.remoteAddress ?? "");
    return ip !== undefined && balancers.some((network) => cidrContains(network, ip));
  }

  /** From here on a connection that a balancer passed on is its source's, for quota, log and calls alike. */
  #unmask(socket: tls.TLSSocket): void {
    const source = this.#sources.get(tuple(socket));
    if (source !== undefined) rename(socket, source);
  }

  #begin(socket: net.Socket): void {
    if (!this.#quota.admit(socket)) {
      socket.destroy();
      return;
    }
    const consumesNothing = (bytes: Buffer) => {
      const decoded = decodeClientHello(bytes);
      return decoded.kind === "done" ? { ...decoded, consumed: 0 } : decoded;
    };
    peek(socket, this.#patienceMs, consumesNothing, (hello) => {
      switch (this.#options.route?.(hello, socket) ?? "terminate") {
        case "terminate":
          this.#tls.emit("connection", socket);
          break;
        case "refuse":
          socket.destroy();
          break;
        case "taken":
          this.#quota.leave(socket);
          break;
      }
    });
  }

  /**
   * Cuts a peer's connections, and takes no more of them for so long: those that show its certificate, or, where it has
   * none, those from its source that have proved nothing.
   */
  shun({ address, certificate }: Pick<Peer, "address"> & Partial<Pick<Peer, "certificate">>, ms: Millis): void {
    if (certificate === undefined) this.#quota.shunSource(address, ms);
    else this.#quota.shunPeer(certificate.fingerprint256, ms);
  }

  /** Stops accepting, lets running calls end for at most `graceMs`, then cuts everything. */
  async close(graceMs: Millis): Promise<void> {
    this.#listener.close();
    this.#injector.drain(graceMs);
    if (this.#sockets.size > 0 && graceMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, graceMs);
        const check = () => {
          if (this.#sockets.size > 0) return;
          clearTimeout(timer);
          resolve();
        };
        for (const socket of this.#sockets) socket.once("close", () => setImmediate(check));
      });
    }
    for (const socket of this.#sockets) socket.destroy();
    this.#injector.destroy();
    this.#grpc.forceShutdown();
  }

  /** Ends of connections are everyday; what OpenSSL objects to is not. */
  #failed(error: NodeJS.ErrnoException, socket: tls.TLSSocket): void {
    if (error.code?.startsWith("ERR_SSL_") === true) this.#turnAway(socket, printable(error.message, 200));
    else this.#options.log?.debug({ error: error.message }, "a connection failed");
  }

  #turnAway(socket: tls.TLSSocket, why: string): void {
    this.#options.turnedAway?.("handshake", stranger(unmapIp(socket.remoteAddress ?? "")), why);
  }

  #secured(socket: tls.TLSSocket): void {
    this.#unmask(socket);
    socket.on("error", (error) => {
      this.#failed(error, socket);
      socket.destroy();
    });
    if (socket.authorized) {
      const certificate = socket.getPeerX509Certificate()?.fingerprint256 ?? "";
      if (!this.#quota.prove(socket, certificate)) {
        this.#turnAway(socket, "there are too many connections with this certificate");
        socket.destroy();
        return;
      }
    } else {
      // A stranger may look at our certificate and enrol; it may not stay.
      const timer = setTimeout(() => socket.destroy(), 6 * this.#patienceMs);
      timer.unref();
      socket.once("close", () => clearTimeout(timer));
    }
    // Node's HTTP/2 server refuses a TLS socket without ALPN, and Linkerd's clients offer none.
    socket.alpnProtocol = "h2";
    this.#injector.injectConnection(socket);
  }
}

function stranger(address: string): Peer {
  return { address, identity: undefined, certificate: undefined };
}

function tuple(socket: net.Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}

/** The balancer is nobody: whoever asks a socket who is at its other end hears the source. */
function rename(socket: net.Socket, { ip, port }: { readonly ip: string; readonly port: number }): void {
  Object.defineProperty(socket, "remoteAddress", { value: ip });
  Object.defineProperty(socket, "remotePort", { value: port });
}

function contextOf(identity: ServerIdentity): tls.SecureContextOptions {
  // An empty list would mean the system's roots.
  if (identity.trustAnchorsPem.length === 0) throw new Error("no trust anchors");
  return {
    key: identity.keyPem,
    cert: identity.certificatePem,
    ca: [...identity.trustAnchorsPem],
    minVersion: "TLSv1.3",
    // No tickets: every connection is judged by its certificate, never by an earlier one's.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/**
 * Reads what stands at the beginning of a connection and puts back what it did not consume. A connection that sends
 * something else, too much or nothing in time is destroyed without a word.
 *
 * @param decode - Bounds by itself what it asks for.
 */
function peek<T>(
  socket: net.Socket,
  patienceMs: Millis,
  decode: (bytes: Buffer) => Decoded<T>,
  done: (value: T) => void,
): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), patienceMs);
  const stop = () => {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("close", stop);
    socket.off("end", end);
  };
  const end = () => socket.destroy();
  const read = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const decoded = decode(seen);
    if (decoded.kind === "more") return;
    stop();
    if (decoded.kind === "no") {
      socket.destroy();
      return;
    }
    if (decoded.consumed < seen.length) socket.unshift(seen.subarray(decoded.consumed));
    done(decoded.value);
  };
  socket.on("readable", read);
  socket.once("close", stop);
  socket.once("end", end);
}
