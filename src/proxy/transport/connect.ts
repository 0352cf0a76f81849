import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type SecureContext, type TLSSocket } from "node:tls";
import { formatSocketAddress, type SocketAddress } from "../core/address.ts";
import { ProxyError } from "../core/errors.ts";
import { carriedBy } from "./abort.ts";
import { AUTHORITY_AS_LEAF, identitiesOf, isAuthority, TRANSPORT_ALPN } from "./tls-identity.ts";

/** Whom to reach and whom to expect there. */
export interface ConnectTarget {
  readonly address: SocketAddress;
  readonly tls:
    | {
        readonly serverName: string;
        /** DNS name in lower case, or URI: one of the server's SANs must equal it. */
        readonly identity: string;
        /** Sent first inside TLS if the server takes the ALPN; undefined: offer none. */
        readonly header: Buffer | undefined;
      }
    | undefined;
}

export interface ConnectOptions {
  /** Covers TCP, TLS and the writing of the header. */
  readonly timeoutMs: number;
  /** Idle time before TCP keep-alive probes. */
  readonly keepAliveMs?: number;
  /** Our certificate and anchors; required for a target with TLS. */
  readonly context?: SecureContext | undefined;
  readonly tune?: TuneSocket | undefined;
}

/** Tells the kernel what Node has no option for, once per connection, when it is there. */
export type TuneSocket = (fd: number) => void;

/** Told once how the attempt ended. */
export interface ConnectWaiter {
  connected(socket: Socket): void;
  failed(error: ProxyError): void;
}

// Linkerd: LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE, 10 s in the chart.
const KEEP_ALIVE_MS = 10_000;

/**
 * Opens one connection: one address, one attempt. A server that is not the expected one hears nothing of the request.
 * @returns A way to give up: closes the socket, and nobody is told.
 */
export function connect(target: ConnectTarget, options: ConnectOptions, waiter: ConnectWaiter): () => void {
  const { address, tls } = target;
  const where = formatSocketAddress(address);
  const tcp = {
    host: address.ip,
    port: address.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: options.keepAliveMs ?? KEEP_ALIVE_MS,
    allowHalfOpen: true,
  };
  if (tls !== undefined && options.context === undefined) {
    queueMicrotask(() =>
      waiter.failed(new ProxyError("identity-missing", `endpoint ${where}: no identity to connect with`)),
    );
    return () => {};
  }
  let settled = false;
  const carrier = connectTcp(tcp, () => {
    const fd = descriptorOf(carrier);
    if (fd !== undefined) options.tune?.(fd);
    if (tls === undefined) settle(undefined);
  });
  let socket = carrier;
  if (tls !== undefined && options.context !== undefined) {
    const secure: TLSSocket = connectTls(
      {
        socket: carrier,
        servername: tls.serverName,
        secureContext: options.context,
        // Linkerd does not compare the name with the SNI but the identity with the SANs: below.
        checkServerIdentity: () => undefined,
        ...(tls.header === undefined ? {} : { ALPNProtocols: [TRANSPORT_ALPN] }),
      },
      () => {
        const certificate = secure.getPeerCertificate();
        const names = identitiesOf(certificate.subjectaltname);
        const byAuthority = isAuthority(certificate);
        if (!secure.authorized || byAuthority || !names.includes(tls.identity)) {
          const found = byAuthority ? AUTHORITY_AS_LEAF : names.join(", ") || "no identity";
          settle(new ProxyError("identity-mismatch", `endpoint ${where}: expected ${tls.identity}, found ${found}`));
          return;
        }
        if (tls.header !== undefined && secure.alpnProtocol === TRANSPORT_ALPN) secure.write(tls.header);
        settle(undefined);
      },
    );
    carriedBy(secure, carrier);
    carrier.on("error", onError);
    socket = secure;
  }
  const timer = setTimeout(
    () =>
      settle(new ProxyError("connect-timeout", `endpoint ${where}: connect timed out after ${options.timeoutMs}ms`)),
    options.timeoutMs,
  );
  const onClose = () => settle(new ProxyError("connect-failed", `endpoint ${where}: closed during connect`));
  socket.on("error", onError);
  socket.on("close", onClose);

  function onError(error: Error): void {
    settle(new ProxyError("connect-failed", `endpoint ${where}: ${error.message}`, { cause: error }));
  }

  function settle(error: ProxyError | undefined): void {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    socket.off("close", onClose);
    if (error !== undefined) {
      // Still listening for errors: a destroyed socket may have one more to tell.
      socket.destroy();
      waiter.failed(error);
      return;
    }
    // The owner adds its own listener; this one keeps a reset in between from being uncaught.
    waiter.connected(socket);
  }

  return () => {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    socket.destroy();
  };
}

/** The descriptor of a socket that is open; Node has no other name for it. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}
