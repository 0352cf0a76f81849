import type { Socket } from "node:net";
import { formatSocketAddress } from "../core/address.ts";
import { ProxyError } from "../core/errors.ts";
import { H } from "../core/header.ts";
import type { InboundPolicyHandle } from "../discovery/index.ts";
import {
  type Client,
  decideInbound,
  filterRequest,
  type Permit,
  RateLimiter,
  type RateLimits,
} from "../policy/index.ts";
import {
  compose,
  type Dispatcher,
  type Exchange,
  forward,
  type Layer,
  origProto,
  type Peer,
  record,
  rescue,
  type Service,
  type Stack,
  stopped,
} from "../stack/index.ts";
import { Http1ServerConnection } from "../transport/http1-server.ts";
import { Http2ServerConnection } from "../transport/http2-server.ts";
import { Http1Pool, Http2Pool } from "../transport/pool.ts";
import type { InboundDeps } from "./deps.ts";
import type { Arrival } from "./detect.ts";

// A peer that proved an identity carries everybody's requests over one connection; anyone else speaks for itself.
const MESH_STREAMS = 1_000;
const CLIENT_STREAMS = 100;
// Linkerd: LINKERD2_PROXY_INBOUND_CONNECT_EXP_BACKOFF, 100 ms to 10 s.
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 10_000;
// An application that is away fails every request in the same way: its operator needs one line, not all of them.
const SAY_AGAIN_MS = 10_000;

/** Serves HTTP connections to the host's workload. */
export class InboundHttp {
  readonly #deps: InboundDeps;
  /** One stack and its pools per application address and road. */
  readonly #targets = new Map<string, Target>();

  constructor(deps: InboundDeps) {
    this.#deps = deps;
  }

  /** @param direct - Came with a transport header: such a request must name its authority itself. */
  serve(
    version: "1" | "2",
    arrival: Arrival,
    socket: Socket,
    client: Client,
    first: Buffer | undefined,
    direct = false,
  ): void {
    const { runtime, connections } = this.#deps;
    const peer: Peer = { address: arrival.originalClient, originalDst: arrival.originalDst, client };
    const target = this.#target(arrival, direct);
    const meter = this.#deps.meters.accepted(peer, arrival.handle.current.ref);
    arrival.handle.retain();
    const closed = (connection: Http1ServerConnection | Http2ServerConnection) => {
      arrival.handle.release();
      connections.delete(connection);
    };
    const connection =
      version === "1"
        ? new Http1ServerConnection(socket, runtime, meter, peer, target.stack, (c) =>
            closed(c as Http1ServerConnection),
          )
        : new Http2ServerConnection(
            socket,
            runtime,
            meter,
            peer,
            target.stack,
            {
              maxConcurrentStreams: client.tls === "identity" ? MESH_STREAMS : CLIENT_STREAMS,
              trusted: client.tls === "identity",
            },
            (c) => closed(c as Http2ServerConnection),
          );
    connections.add(connection);
    connection.start(first);
  }

  close(): void {
    for (const target of this.#targets.values()) target.close();
    this.#targets.clear();
  }

  #target(arrival: Arrival, direct: boolean): Target {
    const key = `${formatSocketAddress(arrival.appAddress)}${direct ? " direct" : ""}`;
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = newTarget(this.#deps, arrival, direct);
      this.#targets.set(key, target);
    }
    // An unused port's handle expires and is replaced; the stack outlives it.
    target.port.handle = arrival.handle;
    return target;
  }
}

interface Target {
  readonly stack: Stack;
  readonly port: ServedPort;
  close(): void;
}

/** The policy of the port that a stack serves, as the worker's cache holds it now. */
interface ServedPort {
  handle: InboundPolicyHandle;
}

/** Logs that the application cannot be reached, once in {@link SAY_AGAIN_MS}. */
function unreachable({ log, clock }: InboundDeps["runtime"]): (x: Exchange, error: ProxyError) => void {
  let saidAt = Number.NEGATIVE_INFINITY;
  return (_x, error) => {
    if (error.reason !== "connect-failed" && error.reason !== "connect-timeout" && error.reason !== "failfast") return;
    const now = clock.now();
    if (now - saidAt < SAY_AGAIN_MS) return;
    saidAt = now;
    log.info("application unreachable", { why: error.message });
  };
}

/** The inbound stack, read top to bottom; built once per application address. */
function newTarget(deps: InboundDeps, arrival: Arrival, direct: boolean): Target {
  const { runtime, config } = deps;
  const app = { address: arrival.appAddress, tls: undefined };
  const port: ServedPort = { handle: arrival.handle };
  const dial = {
    connectTimeoutMs: config.connectTimeoutMs,
    context: () => undefined,
    meter: () => deps.meters.dialled(),
  };
  const http1 = new Http1Pool(runtime, app, dial);
  const http2 = new Http2Pool(
    runtime,
    app,
    {
      ...dial,
      http2: {},
      backoffMinMs: BACKOFF_MIN_MS,
      backoffMaxMs: BACKOFF_MAX_MS,
      failfastMs: config.failfastMs,
      rng: deps.rng,
    },
    () => {},
  );
  // By the request's own version, after the mark of HTTP/1 carried in HTTP/2 was taken off.
  const choose = (x: Exchange): Dispatcher => (x.request.version === "2" ? http2 : http1);
  const stack = compose(
    [
      record(deps.recorder),
      rescue({ informs: (x) => x.peer.client.tls === "identity", onError: unreachable(runtime) }),
      origProto(), // HTTP/1 in HTTP/2's clothes becomes HTTP/1 again
      clientIdentity(), // who speaks, as we know it; never as the client says it
      authority(direct ? undefined : formatSocketAddress(arrival.originalDst)),
      authorized(port, deps), // 404, 403 or a permit; filters
    ],
    forward(choose),
  );
  return {
    stack,
    port,
    close() {
      http1.close();
      http2.close();
    },
  };
}

/** `l5d-client-id` says who the client proved to be, or is absent. */
function clientIdentity(): Layer {
  return {
    named: "client-identity",
    wrap: (inner) => ({
      call(x: Exchange) {
        const { id } = x.peer.client;
        const { headers } = x.request;
        if (id !== undefined) headers.set(H.l5dClientId, id);
        else if (headers.has(H.l5dClientId)) headers.remove(H.l5dClientId.lower);
        inner.call(x);
      },
    }),
  };
}

/** A request that names no authority gets the connection's; where there is none, HTTP/1 cannot be routed. */
function authority(fallback: string | undefined): Layer {
  return {
    named: "authority",
    wrap: (inner) => ({
      call(x: Exchange) {
        const { request } = x;
        if (request.authority === undefined && request.version !== "2") {
          if (fallback === undefined) return x.fail(new ProxyError("unexpected"));
          request.authority = fallback;
        }
        inner.call(x);
      },
    }),
  };
}

/** Asks the port's policy, as it is at this moment, about every request. */
function authorized(port: ServedPort, deps: InboundDeps): Layer {
  return { named: "authorized", wrap: (inner) => new Authorized(inner, port, deps) };
}

class Authorized implements Service {
  readonly #inner: Service;
  readonly #port: ServedPort;
  readonly #deps: InboundDeps;
  #limited: RateLimits | undefined;
  #limiter: RateLimiter | undefined;

  constructor(inner: Service, port: ServedPort, deps: InboundDeps) {
    this.#inner = inner;
    this.#port = port;
    this.#deps = deps;
  }

  call(x: Exchange): void {
    const decision = decideInbound(this.#port.handle.current, x.request, x.peer.client);
    x.judge = decision.policy.ref;
    switch (decision.kind) {
      case "permit":
        return this.#permitted(x, decision);
      case "not-found":
        return x.fail(new ProxyError("route-not-found", this.#context(x, "no route found for request")));
      case "denied":
        x.route = decision.route.ref;
        return x.fail(new ProxyError("unauthorized", this.#context(x, "unauthorized request on route")));
      default:
        decision satisfies never;
    }
  }

  #permitted(x: Exchange, permit: Permit): void {
    x.permit = permit;
    x.route = permit.route.ref;
    if (permit.rule.filters.length > 0) {
      const stop = filterRequest(permit.rule.filters, x.request, permit.match, this.#deps.rng);
      if (stop !== undefined) return x.fail(stopped(stop));
    }
    const { protocol } = permit.policy;
    if ("rateLimits" in protocol && protocol.rateLimits !== undefined) {
      const over = this.#limiterFor(protocol.rateLimits).take(x.peer.client.id, this.#deps.runtime.clock.now());
      if (over !== undefined) {
        const scope = over.which === "total" ? "total" : "identity";
        this.#deps.meters.limited(x.peer, permit.policy.ref, protocol.rateLimits.ref, scope);
        return x.fail(
          new ProxyError("rate-limited", this.#context(x, `${over.which} rate limit exceeded: ${over.limit}rps`)),
        );
      }
    }
    this.#inner.call(x);
  }

  /** The buckets of a policy's limits; they survive an update that leaves the limits as they are. */
  #limiterFor(limits: RateLimits): RateLimiter {
    if (this.#limiter === undefined || this.#limited !== limits) {
      const same = this.#limiter !== undefined && JSON.stringify(this.#limited) === JSON.stringify(limits);
      this.#limited = limits;
      if (!same) this.#limiter = new RateLimiter(limits, this.#deps.share);
    }
    return this.#limiter as RateLimiter;
  }

  #context(x: Exchange, text: string): string {
    return `client ${formatSocketAddress(x.peer.address)}: server: ${formatSocketAddress(x.peer.originalDst)}: ${text}`;
  }
}
