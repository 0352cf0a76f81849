import type { Socket } from "node:net";
import { firstAvailable, randomAvailable } from "../balance/index.ts";
import { formatSocketAddress, type SocketAddress } from "../core/address.ts";
import { ProxyError } from "../core/errors.ts";
import type { ResponseHead } from "../core/http.ts";
import type { OutboundHandle } from "../discovery/index.ts";
import {
  type Backend,
  type Client,
  type Distribution,
  decideOutbound,
  type Filter,
  filterRequest,
  filterResponse,
  type OutboundHttp as HttpRoutes,
  outboundHttp,
  type RouteBackend,
} from "../policy/index.ts";
import {
  compose,
  type Exchange,
  forward,
  type Layer,
  type Peer,
  type ResponseLayer,
  record,
  rescue,
  type Service,
  type Stack,
  stopped,
  stripPeerErrors,
} from "../stack/index.ts";
import { Http1ServerConnection } from "../transport/http1-server.ts";
import { Http2ServerConnection } from "../transport/http2-server.ts";
import { Balancer } from "./balance.ts";
import { deadline } from "./deadline.ts";
import type { OutboundDeps } from "./deps.ts";
import { endpointService } from "./endpoint.ts";

/** How the application's HTTP to one original destination is routed: the stack and the backends behind it. */
export class OutboundHttp {
  readonly #deps: OutboundDeps;
  readonly #handle: OutboundHandle;
  readonly #originalDst: SocketAddress;
  readonly #version: "1" | "2";
  readonly #stack: Stack;
  readonly #backends: Backends;
  readonly #unsubscribe: () => void;

  constructor(deps: OutboundDeps, handle: OutboundHandle, originalDst: SocketAddress, version: "1" | "2") {
    this.#deps = deps;
    this.#handle = handle;
    this.#originalDst = originalDst;
    this.#version = version;
    this.#backends = new Backends(deps, version);
    // Read top to bottom.
    this.#stack = compose(
      [
        record(deps.recorder),
        rescue({ informs: () => true }), // the one place where an error becomes an answer
        authority(originalDst), // HTTP/1 without Host means whom it dialled
        routed(() => this.#routes(), deps), // one decision: route, rule, filters
        deadline(deps.runtime), // the route's timeouts, if it has any
      ],
      distributed(this.#backends, deps), // weighted backends; each balances, or forwards
    );
    this.#reconcile();
    this.#unsubscribe = handle.subscribe({ changed: () => this.#reconcile() });
  }

  serve(socket: Socket, client: Client, address: SocketAddress, first: Buffer | undefined, onClosed: () => void): void {
    const { runtime, connections } = this.#deps;
    const peer: Peer = { address, originalDst: this.#originalDst, client };
    const meter = this.#deps.meters.accepted(this.#originalDst);
    const closed = (connection: Http1ServerConnection | Http2ServerConnection) => {
      connections.delete(connection);
      onClosed();
    };
    const connection =
      this.#version === "1"
        ? new Http1ServerConnection(socket, runtime, meter, peer, this.#stack, (c) =>
            closed(c as Http1ServerConnection),
          )
        : new Http2ServerConnection(socket, runtime, meter, peer, this.#stack, {}, (c) =>
            closed(c as Http2ServerConnection),
          );
    connections.add(connection);
    connection.start(first);
  }

  close(): void {
    this.#unsubscribe();
    this.#backends.keep(undefined);
  }

  #routes(): HttpRoutes | undefined {
    const policy = this.#handle.current?.policy;
    return policy === undefined ? undefined : outboundHttp(policy, this.#version === "2" ? "2" : "1.1");
  }

  /** Backends live as long as the policy names them; those it names first are set up before a request needs them. */
  #reconcile(): void {
    this.#backends.keep(this.#routes());
  }
}

/** The running backends of one stack, by key: kept across policy updates that still name them. */
class Backends {
  readonly #deps: OutboundDeps;
  readonly #version: "1" | "2";
  readonly #running = new Map<string, BackendService>();

  constructor(deps: OutboundDeps, version: "1" | "2") {
    this.#deps = deps;
    this.#version = version;
  }

  get(backend: Backend): BackendService {
    let service = this.#running.get(backend.key);
    if (service === undefined) {
      service = newBackend(this.#deps, backend, this.#version);
      this.#running.set(backend.key, service);
    }
    return service;
  }

  /** Starts what the routes name, closes what they do not. */
  keep(routes: HttpRoutes | undefined): void {
    const named = new Set<string>();
    for (const route of routes?.routes ?? [])
      for (const rule of route.rules) {
        if (rule.distribution.kind === "empty") continue;
        for (const { backend } of rule.distribution.backends) {
          named.add(backend.key);
          this.get(backend);
        }
      }
    for (const [key, service] of this.#running) {
      if (named.has(key)) continue;
      this.#running.delete(key);
      service.close();
    }
  }
}

interface BackendService extends Service {
  readonly ready: boolean;
  close(): void;
}

function newBackend(deps: OutboundDeps, backend: Backend, version: "1" | "2"): BackendService {
  const { dispatch } = backend;
  switch (dispatch.kind) {
    case "balancer":
      return new Balancer(deps, backend, dispatch, version);
    case "forward": {
      const endpoint = endpointService(deps, dispatch.endpoint, backend, version, () => {
        if (!endpoint.ready) endpoint.connect();
      });
      const stack = compose(
        [peerErrors()],
        forward(() => endpoint),
      );
      return {
        ready: true,
        call(x) {
          x.endpoint = dispatch.endpoint;
          x.dispatchedAt = deps.runtime.clock.now();
          stack.call(x);
        },
        close: () => endpoint.close(),
      };
    }
    case "fail":
      return {
        ready: true,
        call: (x) => x.fail(new ProxyError("connect-failed", dispatch.message)),
        close() {},
      };
    default:
      return dispatch satisfies never;
  }
}

/** A peer's proxy speaks of its own errors in headers that are not meant for the application. */
function peerErrors(): Layer {
  const strip: ResponseLayer = {
    onResponse(x: Exchange, head: ResponseHead) {
      if (x.outcome !== "refused") stripPeerErrors(head);
    },
  };
  return {
    named: "peer-errors",
    wrap: (inner) => ({
      call(x) {
        x.observe(strip);
        inner.call(x);
      },
    }),
  };
}

/** HTTP/1 that names no authority gets the one it dialled; `:80` is not spelled out (outbound.md §7.5). */
function authority(originalDst: SocketAddress): Layer {
  const text = formatSocketAddress(originalDst);
  const fallback = originalDst.port === 80 ? text.slice(0, -3) : text;
  return {
    named: "authority",
    wrap: (inner) => ({
      call(x) {
        if (x.request.authority === undefined && x.request.version !== "2") x.request.authority = fallback;
        inner.call(x);
      },
    }),
  };
}

/** Chooses the route once and runs its filters; later layers only read the choice. */
function routed(routes: () => HttpRoutes | undefined, deps: OutboundDeps): Layer {
  const responses: ResponseLayer = {
    onResponse(x: Exchange, head: ResponseHead) {
      if (x.choice !== undefined && x.outcome !== "refused") filterResponse(x.choice.rule.filters, head.headers);
    },
  };
  return {
    named: "routed",
    wrap: (inner) => ({
      call(x) {
        const http = routes();
        const choice = http === undefined ? undefined : decideOutbound(http, x.request);
        if (choice === undefined) return x.fail(new ProxyError("route-not-found", "no route"));
        x.choice = choice;
        x.route = choice.route.ref;
        const { filters } = choice.rule;
        if (filters.length > 0) {
          const stop = filterRequest(filters, x.request, choice.match, deps.rng);
          if (stop !== undefined) return x.fail(stopped(stop));
          x.observe(responses);
        }
        inner.call(x);
      },
    }),
  };
}

/** Chooses a backend by weight among those that are ready. */
function distributed(backends: Backends, deps: OutboundDeps): Service & { readonly named: string } {
  const isReady = (choice: RouteBackend<Filter>) => backends.get(choice.backend).ready;
  const pick = (distribution: Distribution): RouteBackend<Filter> | undefined => {
    switch (distribution.kind) {
      case "empty":
        return undefined;
      case "first-available":
        return firstAvailable(distribution.backends, isReady);
      case "random-available":
        return randomAvailable(distribution.backends, isReady, deps.rng);
      default:
        return distribution satisfies never;
    }
  };
  return {
    named: "distributed",
    call(x) {
      const choice = x.choice;
      const chosen = choice === undefined ? undefined : pick(choice.rule.distribution);
      if (chosen === undefined) return x.fail(new ProxyError("load-shed"));
      x.backend = chosen.backend;
      if (chosen.filters.length > 0) {
        const stop = filterRequest(chosen.filters, x.request, choice?.match, deps.rng);
        if (stop !== undefined) return x.fail(stopped(stop));
      }
      backends.get(chosen.backend).call(x);
    },
  };
}
