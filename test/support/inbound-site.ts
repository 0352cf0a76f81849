import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { parseCidr } from "../../src/proxy/core/address.ts";
import { type Authorization, defaultRef, type InboundPolicy, type InboundRoute } from "../../src/proxy/policy/index.ts";
import { Hops, type HopsOptions } from "./hops.ts";

/** Everybody, with TLS or without. */
export const ANYONE: Authorization = {
  ref: defaultRef("anyone"),
  networks: [parseCidr("0.0.0.0/0"), parseCidr("::/0")].flatMap((net) =>
    net === undefined ? [] : [{ net, except: [] }],
  ),
  authentication: { kind: "none" },
};

/** One rule for what begins with `path`; the empty one is everything. */
export const routeTo = (path: string, more: Partial<InboundRoute["rules"][number]> = {}): InboundRoute => ({
  ref: defaultRef(path.slice(1) || "all"),
  hosts: [],
  authorizations: [ANYONE],
  rules: [
    {
      matches: [{ kind: "http", method: undefined, path: { kind: "prefix", prefix: path }, headers: [], query: [] }],
      filters: [],
      ...more,
    },
  ],
});

type Protocol = InboundPolicy["protocol"];

/** A policy as the control plane would send it, open to everybody unless told. */
export function inboundPolicy(protocol: Protocol, authorizations: readonly Authorization[] = [ANYONE]): InboundPolicy {
  return { source: "api", ref: defaultRef("site"), protocol, authorizations };
}

export const http = (kind: "http1" | "http2" | "grpc", ...routes: InboundRoute[]): Protocol => ({
  kind,
  routes,
  rateLimits: undefined,
});

export const detect = (timeoutMs: number, ...routes: InboundRoute[]): Protocol => ({
  kind: "detect",
  timeoutMs,
  routes,
  rateLimits: undefined,
});

/** Moves time on until something has happened that only time brings. */
export async function inTime<T>(hops: Hops, happens: Promise<T>): Promise<T> {
  let over = false;
  void happens.finally(() => {
    over = true;
  });
  while (!over) {
    hops.skip(1_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return happens;
}

/** Hops in front of an application, to be closed after the test. */
export class InboundSite {
  readonly #closers: (() => void)[] = [];

  close(): void {
    for (const closer of this.#closers.splice(0).reverse()) closer();
  }

  /** An application that speaks HTTP/1. */
  async http(listener: RequestListener): Promise<number> {
    const app = createServer(listener);
    this.#closers.push(() => app.closeAllConnections());
    return this.#listen(app);
  }

  /** An application that does with a connection what it likes. */
  tcp(listener: (socket: Socket) => void): Promise<number> {
    return this.#listen(
      createTcpServer({ allowHalfOpen: true }, (socket) => {
        socket.on("error", () => {});
        this.#closers.push(() => socket.destroy());
        listener(socket);
      }),
    );
  }

  /** @returns The hops, and where connections count as intercepted ones. */
  async hops(options: HopsOptions): Promise<{ hops: Hops; intercepted: number }> {
    // As in production: whoever wants the time to be over moves it.
    const hops = await Hops.start({ detectTimeoutMs: 10_000, ...options });
    this.#closers.push(() => hops.close());
    const intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: options.appPort });
    return { hops, intercepted };
  }

  async #listen(server: Server): Promise<number> {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    this.#closers.push(() => void server.close());
    return (server.address() as AddressInfo).port;
  }
}
