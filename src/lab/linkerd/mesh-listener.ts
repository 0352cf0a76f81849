import { constants } from "node:crypto";
import type net from "node:net";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import type { Credentials } from "../pki.ts";

export interface MeshListenerOptions {
  readonly host: string;
  /** 0 takes a free one, and keeps it over restarts. */
  readonly port: number;
  /** Offered to clients; none unless told, as on the service ports of a control plane's pod. */
  readonly alpn?: string;
  /** Whether clients must show a certificate. Those that show a bad one are refused in any case. */
  readonly requireCertificate: boolean;
  readonly identity: MeshIdentity;
  /** Owns the socket from here on. */
  readonly onSecured: (socket: tls.TLSSocket, serverName: string) => void;
}

/** What the listener shows, by the name that the client asks for in SNI, and what it believes. */
export interface MeshIdentity {
  readonly byName: ReadonlyMap<string, Credentials>;
  readonly trustAnchorsPem: readonly string[];
}

/**
 * A port as Linkerd's proxy guards it in front of a control-plane service: TLS 1.3, asks for a client certificate and
 * does without one, but not with a bad one. The name in SNI must be the pod's own. In a cluster the proxy hands other
 * connections to the service as they are; the service speaks no TLS, so they fail as they do here.
 */
export class MeshListener {
  readonly #server: tls.Server;
  readonly #options: MeshListenerOptions;
  readonly #sockets = new Set<net.Socket>();
  #identity: MeshIdentity;
  #contexts: ReadonlyMap<string, tls.SecureContext>;
  #port: number;

  constructor(options: MeshListenerOptions) {
    this.#options = options;
    this.#port = options.port;
    this.#identity = options.identity;
    this.#contexts = contextsOf(options.identity);
    this.#server = tls.createServer({
      ...firstContext(options.identity),
      requestCert: true,
      // Judged below, by `authorized`: a missing certificate is fine, a bad one is not.
      rejectUnauthorized: false,
      ...(options.alpn !== undefined && { ALPNProtocols: [options.alpn] }),
      SNICallback: (name, done) => {
        const context = this.#contexts.get(name);
        if (context === undefined) done(new Error(`nobody here is called ${name}`));
        else done(null, context);
      },
    });
    this.#server.on("connection", (socket: net.Socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("tlsClientError", (_error, socket) => socket.destroy());
    this.#server.on("secureConnection", (socket) => this.#secured(socket));
  }

  /** Begins, or begins again, to listen. */
  async start(): Promise<AddressInfo> {
    const { host } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port: this.#port }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    const address = this.#server.address() as AddressInfo;
    this.#port = address.port;
    return address;
  }

  /** Refuses new connections and cuts all old ones without a goodbye, as a killed pod does. {@link start} revives. */
  async kill(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** New handshakes show and believe this. */
  setIdentity(identity: MeshIdentity): void {
    this.#identity = identity;
    this.#contexts = contextsOf(identity);
    this.#server.setSecureContext(firstContext(identity));
  }

  #secured(socket: tls.TLSSocket): void {
    socket.on("error", () => socket.destroy());
    const { servername } = socket as { readonly servername?: string | false };
    const { alpn, requireCertificate, onSecured } = this.#options;
    const presented = socket.getPeerX509Certificate() !== undefined;
    const isTrusted = presented ? socket.authorized : !requireCertificate;
    // Clients that offer no ALPN get through the handshake, and those that send no SNI.
    const isAddressed = typeof servername === "string" && this.#identity.byName.has(servername);
    if (!isTrusted || !isAddressed || (alpn !== undefined && socket.alpnProtocol !== alpn)) socket.destroy();
    else onSecured(socket, servername);
  }
}

function contextsOf(identity: MeshIdentity): ReadonlyMap<string, tls.SecureContext> {
  const contexts = new Map<string, tls.SecureContext>();
  for (const [name, credentials] of identity.byName) {
    contexts.set(name, tls.createSecureContext(contextOptions(credentials, identity.trustAnchorsPem)));
  }
  return contexts;
}

/** For clients without SNI, which are turned away after the handshake. */
function firstContext(identity: MeshIdentity): tls.SecureContextOptions {
  const [credentials] = identity.byName.values();
  if (credentials === undefined) throw new Error("a listener needs a name");
  return contextOptions(credentials, identity.trustAnchorsPem);
}

function contextOptions(credentials: Credentials, trustAnchorsPem: readonly string[]): tls.SecureContextOptions {
  return {
    key: credentials.keyPem,
    cert: credentials.certificatePem,
    ca: [...trustAnchorsPem],
    minVersion: "TLSv1.3",
    // Every connection is judged by its own certificate, never by an earlier one's.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}
