import type { Socket } from "node:net";
import type { SocketAddress } from "../core/address.ts";
import type { Millis } from "../core/clock.ts";
import type { OutboundHandle } from "../discovery/index.ts";
import type { Client, OutboundPolicy } from "../policy/index.ts";
import type { OutboundDeps } from "./deps.ts";
import { OutboundHttp } from "./http.ts";
import { OutboundOpaque } from "./opaque.ts";

/**
 * Everything that is built for one original destination: its HTTP stacks and its opaque balancers. Built once, kept
 * while a connection uses it and for the idle time after.
 */
export class Destination {
  readonly originalDst: SocketAddress;
  readonly handle: OutboundHandle;
  readonly #deps: OutboundDeps;
  #http1: OutboundHttp | undefined;
  #http2: OutboundHttp | undefined;
  #opaque: OutboundOpaque | undefined;
  #connections = 0;
  #unusedSince: Millis;

  constructor(deps: OutboundDeps, originalDst: SocketAddress) {
    this.#deps = deps;
    this.originalDst = originalDst;
    this.handle = deps.discovery.outbound(originalDst.ip, originalDst.port);
    this.handle.retain();
    this.#unusedSince = deps.runtime.clock.now();
  }

  get policy(): OutboundPolicy | undefined {
    return this.handle.current?.policy;
  }

  /** A connection begins to use it. Each is matched by one {@link leave}. */
  enter(): void {
    this.#connections++;
  }

  leave(): void {
    this.#connections--;
    this.#unusedSince = this.#deps.runtime.clock.now();
  }

  unusedFor(now: Millis): Millis {
    return this.#connections > 0 ? 0 : now - this.#unusedSince;
  }

  serveHttp(
    version: "1" | "2",
    socket: Socket,
    client: Client,
    address: SocketAddress,
    first: Buffer | undefined,
  ): void {
    let http = version === "1" ? this.#http1 : this.#http2;
    if (http === undefined) {
      http = new OutboundHttp(this.#deps, this.handle, this.originalDst, version);
      if (version === "1") this.#http1 = http;
      else this.#http2 = http;
    }
    http.serve(socket, client, address, first, () => this.leave());
  }

  /** @param sni - For the TLS protocol: which route; undefined for plain opaque. */
  serveOpaque(socket: Socket, first: Buffer | undefined, sni: string | undefined): void {
    this.#opaque ??= new OutboundOpaque(this.#deps, this.handle, this.originalDst);
    this.#opaque.serve(socket, first, sni, () => this.leave());
  }

  close(): void {
    this.#http1?.close();
    this.#http2?.close();
    this.#opaque?.close();
    this.handle.release();
  }
}
