import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Server as TcpServer } from "node:net";
import { Authority } from "../../src/lab/pki.ts";
import type { Rng } from "../../src/proxy/core/clock.ts";
import { type Endpoint, plainEndpoint } from "../../src/proxy/core/endpoint.ts";
import type { DiscoveryRequest } from "../../src/proxy/core/messages.ts";
import {
  type Backend,
  bestOf,
  catchAllOutbound,
  type Distribution,
  defaultRef,
  type FailureAccrual,
  makeBackend,
  type OutboundPolicy,
  type OutboundRule,
  type Profile,
} from "../../src/proxy/policy/index.ts";
import { CLIENT_NAME, HopProxy, type HopsOptions, identityFrom } from "./hops.ts";

const SAYS_NOTHING: Profile = {
  opaque: false,
  logicalName: undefined,
  endpoint: undefined,
  routes: [],
  targets: [],
  retryBudget: undefined,
};

/** A Service's backend, balanced over `path`'s endpoints. */
export function backendOf(path: string, failureAccrual?: FailureAccrual): Backend {
  const load = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 } as const;
  return makeBackend(defaultRef("svc"), defaultRef(path), { kind: "balancer", path, load }, failureAccrual);
}

/** A policy of one route; `change` adds timeouts, retries and the like to its rule. */
export function routeTo(distribution: Distribution, change: Partial<OutboundRule> = {}): OutboundPolicy {
  const ref = defaultRef("route");
  const route = catchAllOutbound(ref, distribution);
  const http = bestOf([{ ...route, rules: route.rules.map((rule) => ({ ...rule, ...change })) }]);
  return {
    source: "api",
    kind: "detect",
    ref: defaultRef("svc"),
    http1: http,
    http2: http,
    opaque: undefined,
    tls: [],
  };
}

/** Lets a server listen on a port of loopback, and is the endpoint that it makes. */
export async function endpointOf(server: TcpServer): Promise<Endpoint> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return plainEndpoint({ ip: "127.0.0.1", port: (server.address() as AddressInfo).port });
}

/** An application on loopback that knows how often it was asked. */
export class App {
  readonly server: Server;
  calls = 0;

  constructor(handle: (req: IncomingMessage, res: ServerResponse, call: number) => void) {
    this.server = createServer((req, res) => handle(req, res, ++this.calls));
  }

  listen(): Promise<Endpoint> {
    return endpointOf(this.server);
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** The outbound side of one proxy, its discovery answered by the test. */
export class Balanced {
  readonly proxy: HopProxy;
  readonly port: number;
  readonly suspected: string[];
  readonly #state: { policy: OutboundPolicy };

  private constructor(proxy: HopProxy, port: number, suspected: string[], state: { policy: OutboundPolicy }) {
    this.proxy = proxy;
    this.port = port;
    this.suspected = suspected;
    this.#state = state;
  }

  /**
   * @param endpoints - By path; a path that is not there is one of which discovery never speaks.
   * @param trusted - Who vouches for identities, where endpoints have one.
   */
  static async start(
    policy: OutboundPolicy,
    endpoints: Readonly<Record<string, readonly Endpoint[]>>,
    rng?: Rng,
    trusted?: Authority,
    host: Pick<HopsOptions, "localIps" | "refusesLoopback"> = {},
  ): Promise<Balanced> {
    const authority = trusted ?? (await Authority.root("root.linkerd.cluster.local"));
    const state = { policy };
    const suspected: string[] = [];
    const answer = (asked: DiscoveryRequest) => {
      const { target } = asked;
      if (asked.type === "discovery.suspect" && target.kind === "endpoints") suspected.push(target.path);
      if (asked.type !== "discovery.watch") return undefined;
      if (target.kind === "outbound") {
        const key = `outbound ${target.ip}:${target.port}`;
        return { type: "discovery.outbound", key, value: { policy: state.policy, profile: undefined } } as const;
      }
      const add = target.kind === "endpoints" ? endpoints[target.path] : undefined;
      if (add === undefined || target.kind !== "endpoints") return undefined;
      return { type: "discovery.endpoints", key: `endpoints ${target.path}`, reset: true, add, remove: [] } as const;
    };
    const proxy = new HopProxy(await identityFrom(authority, CLIENT_NAME), answer, {
      ...host,
      ...(rng === undefined ? {} : { rng }),
    });
    const port = await proxy.listenOutbound();
    return new Balanced(proxy, port, suspected, state);
  }

  get policy(): OutboundPolicy {
    return this.#state.policy;
  }

  /** The control plane says something else; perhaps also what the destination is called. */
  update(policy: OutboundPolicy, logicalName?: string): void {
    this.#state.policy = policy;
    const profile = logicalName === undefined ? undefined : { ...SAYS_NOTHING, logicalName };
    const value = { policy, profile };
    this.proxy.tell({ type: "discovery.outbound", key: `outbound 127.0.0.1:${this.port}`, value });
  }

  close(): void {
    this.proxy.close();
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** One request of a program, as `node:http` sends it. */
export function ask(
  port: number,
  options: {
    readonly method?: string;
    readonly path?: string;
    readonly headers?: Record<string, string>;
    readonly body?: Buffer;
    readonly agent?: import("node:http").Agent;
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({ host: "127.0.0.1", port, ...options }, (res) => {
      let body = "";
      res.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      res.on("end", () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }));
      res.on("error", reject);
    });
    req.on("error", reject);
    req.end(options.body);
  });
}
