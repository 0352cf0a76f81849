import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";

/** The TCP socket under each TLS socket of ours. */
const carriers = new WeakMap<Socket, Socket>();

/** Remembers what a TLS socket runs on, for {@link abort}. */
export function carriedBy(secure: TLSSocket, carrier: Socket): void {
  carriers.set(secure, carrier);
}

/**
 * Ends a connection so that the peer cannot take it for complete: with a RST, also under TLS, where Node knows no
 * reset, and few peers look for a close_notify.
 */
export function abort(socket: Socket): void {
  const carrier = carriers.get(socket) ?? socket;
  try {
    carrier.resetAndDestroy();
  } catch {
    // Not a TCP socket: the best that is left.
    carrier.destroy();
  }
  if (carrier === socket) socket.destroy();
  // Not now: this may be the end of a handshake, told from within OpenSSL's read, and with its carrier gone Node frees
  // the TLS state at once. OpenSSL would return into freed memory (Node 26.10: SIGSEGV in ssl3_read_bytes).
  else setImmediate(() => socket.destroy());
}
