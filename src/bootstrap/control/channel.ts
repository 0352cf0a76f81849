import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import tls from "node:tls";
import { CallCredentials, ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import { parseSocketAddress } from "../../proxy/core/address.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import { encodeTransportHeader, TRANSPORT_ALPN } from "../../proxy/wire/transport-header/index.ts";
import { provesDnsName } from "./certificate.ts";

/** What a client shows when asked for a certificate. */
export interface ClientCertificate {
  readonly keyPem: string;
  readonly certificatePem: string;
}

export interface MeshChannelOptions {
  /** SNI, and the DNS name that the server must prove by any of its names. */
  readonly serverName: string;
  /** The only roots that count. Read at every connect, so that a rotation needs no new channel. */
  readonly trustAnchorsPem: () => readonly string[];
  /** Read at every connect: a renewed certificate is used from the next connection on. */
  readonly certificate?: () => ClientCertificate | undefined;
  /**
   * Set when the peer is a proxy port (4143, or an enroller that passes through to one): the connection then starts
   * with a transport header that asks for this port of the peer, and HTTP/2.
   */
  readonly throughPort?: number;
  /** From connected to secured. 10 s unless told. */
  readonly handshakeTimeoutMs?: Millis;
}

/** What every channel of ours sets: no proxy from the environment, no configuration from DNS, small messages. */
export const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.enable_http_proxy": 0,
  "grpc.service_config_disable_resolution": 1,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5000,
  // An idle subchannel is kept by the streams on it; a second channel never shares ours.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 1000,
  "grpc.max_reconnect_backoff_ms": 10_000,
};

/**
 * Turns `host:port`, `ip:port` or `[ip6]:port` into grpc-js's spelling.
 * @returns undefined if it is neither.
 */
export function grpcTarget(address: string): string | undefined {
  const literal = parseSocketAddress(address);
  if (literal !== undefined) return literal.ip.includes(":") ? `ipv6:${address}` : `ipv4:${address}`;
  return /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?:\d{1,5}$/.test(address) ? `dns:${address}` : undefined;
}

/** The prefix of the error when a server proves another name; {@link meshCredentials} raises it. */
export const WRONG_NAME = "the server does not prove the name";

/**
 * Credentials for a grpc-js channel over mesh TLS: TLS 1.3, the given roots and no others, the server's name checked
 * by ourselves (any DNS name, whole), a client certificate if there is one.
 */
export function meshCredentials(options: MeshChannelOptions): ChannelCredentials {
  return new MeshCredentials(options);
}

class MeshCredentials extends ChannelCredentials {
  readonly #options: MeshChannelOptions;
  #context:
    | { readonly secure: tls.SecureContext; readonly anchors: readonly string[]; readonly leaf: string | undefined }
    | undefined;

  constructor(options: MeshChannelOptions) {
    super();
    this.#options = options;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(_target: unknown, _options: unknown, callCredentials?: CallCredentials) {
    const calls = callCredentials ?? CallCredentials.createEmpty();
    return {
      connect: async (socket: Socket) => ({ socket: await this.#secure(socket), secure: true }),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => calls,
      destroy() {},
    };
  }

  #secure(socket: Socket): Promise<tls.TLSSocket> {
    const { serverName, throughPort, handshakeTimeoutMs = 10_000 } = this.#options;
    return new Promise((resolve, reject) => {
      const secured = tls.connect({
        socket,
        secureContext: this.#secureContext(),
        servername: serverName,
        // Linkerd's control plane negotiates none: HTTP/2 by prior knowledge.
        ...(throughPort === undefined ? {} : { ALPNProtocols: [TRANSPORT_ALPN] }),
        checkServerIdentity: (_host, peer) => nameError(peer.raw, serverName),
      });
      const timer = setTimeout(
        () => secured.destroy(new Error(`the TLS handshake took longer than ${handshakeTimeoutMs} ms`)),
        handshakeTimeoutMs,
      );
      const fail = (error: Error) => {
        clearTimeout(timer);
        secured.destroy();
        reject(error);
      };
      const closed = () => fail(new Error("the connection was closed during the TLS handshake"));
      secured.on("error", fail);
      secured.once("close", closed);
      secured.once("secureConnect", () => {
        clearTimeout(timer);
        secured.off("close", closed);
        if (throughPort === undefined) {
          resolve(secured);
        } else if (secured.alpnProtocol !== TRANSPORT_ALPN) {
          fail(new Error("the server does not accept transport headers"));
        } else {
          // The header must be on its way before the HTTP/2 session takes the socket's handle.
          secured.write(encodeTransportHeader({ port: throughPort, name: undefined, protocol: "http2" }), () =>
            resolve(secured),
          );
        }
      });
    });
  }

  /** Kept while certificate and roots stay the same: building one costs more than a handshake's signature. */
  #secureContext(): tls.SecureContext {
    const anchors = this.#options.trustAnchorsPem();
    const certificate = this.#options.certificate?.();
    const kept = this.#context;
    if (kept !== undefined && kept.anchors === anchors && kept.leaf === certificate?.certificatePem) return kept.secure;
    // An empty list would mean the system's roots.
    if (anchors.length === 0) throw new Error("no trust anchors");
    const secure = tls.createSecureContext({
      ca: [...anchors],
      minVersion: "TLSv1.3",
      ...(certificate === undefined ? {} : { key: certificate.keyPem, cert: certificate.certificatePem }),
    });
    this.#context = { secure, anchors, leaf: certificate?.certificatePem };
    return secure;
  }
}

// A throw in this callback would be an uncaught exception (the CVE-2026-21637 class).
function nameError(raw: Buffer, serverName: string): Error | undefined {
  try {
    if (provesDnsName(new X509Certificate(raw), serverName)) return undefined;
  } catch {
    // An unreadable certificate proves nothing.
  }
  return new Error(`${WRONG_NAME} ${serverName}`);
}
