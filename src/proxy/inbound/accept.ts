import { parseIp, type SocketAddress } from "../core/address.ts";
import type { Millis } from "../core/clock.ts";
import type { Client } from "../policy/index.ts";
import type { Accepted } from "../transport/listener.ts";
import type { Arrival } from "./arrival.ts";
import type { InboundDeps, InboundParts } from "./deps.ts";
import { detectTls } from "./detect.ts";
import { acceptDirect } from "./direct.ts";
import { whenKnown } from "./discover.ts";
import { InboundHttp } from "./http.ts";
import { forwardOpaque } from "./opaque.ts";
import { Seldom } from "./seldom.ts";

/** Takes every connection that reaches the host's workload. */
export class InboundAcceptor {
  readonly #deps: InboundParts;
  readonly #http: InboundHttp;

  constructor(deps: InboundDeps) {
    this.#deps = { ...deps, seldom: new Seldom() };
    this.#http = new InboundHttp(this.#deps);
  }

  accept(accepted: Accepted): void {
    const { config, discovery } = this.#deps;
    const client = clientOf(accepted.client);
    if (client === undefined) {
      accepted.socket.destroy();
      return;
    }
    const { originalDst } = accepted;
    if (originalDst.port === config.port) {
      // Never forwarded to itself: whatever comes to the proxy's own port must say in a header where it wants to go.
      acceptDirect(this.#deps, this.#http, accepted, client);
      return;
    }
    const handle = discovery.inbound(originalDst.port);
    const arrival: Arrival = { ...accepted, originalClient: accepted.client, road: "redirected", handle };
    whenKnown(handle, accepted.socket, () => {
      // An opaque port is not looked at: its clients may wait for the server to speak, and their TLS is their own.
      if (handle.current.protocol.kind === "opaque")
        forwardOpaque(this.#deps, { ...arrival, noTls: { kind: "skipped" } }, accepted.socket, client, undefined);
      else detectTls(this.#deps, this.#http, arrival, client);
    });
  }

  /** Lets go of what no connection has used for a while. Call it about once a second. */
  expire(now: Millis): void {
    this.#http.expire(now);
  }

  close(): void {
    this.#http.close();
  }
}

function clientOf(address: SocketAddress): Client | undefined {
  // A link-local client has a zone that only this host knows; policies speak of addresses.
  const zone = address.ip.indexOf("%");
  const ip = parseIp(zone < 0 ? address.ip : address.ip.slice(0, zone));
  return ip && { ip, tls: "none", id: undefined };
}
