import type { Socket } from "node:net";
import type { SocketAddress } from "../core/address.ts";
import type { InboundPolicyHandle } from "../discovery/index.ts";
import type { NoTls } from "../stack/index.ts";
import type { InboundConfig } from "./deps.ts";

/** A connection on an application port, with what is known before its first byte. */
export interface Arrival {
  readonly socket: Socket;
  readonly originalClient: SocketAddress;
  readonly originalDst: SocketAddress;
  /** `direct`: through our own port, with a transport header that names the port in {@link originalDst}. */
  readonly road: "redirected" | "direct";
  readonly handle: InboundPolicyHandle;
  readonly noTls?: NoTls | undefined;
}

/** Where the application listens: never on loopback only, except for our own admin server. */
export function appAddressOf(config: InboundConfig, { originalDst }: Arrival): SocketAddress {
  return config.admin?.port === originalDst.port ? config.admin : originalDst;
}
