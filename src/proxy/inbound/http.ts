import type { Socket } from "node:net";
import { formatSocketAddress } from "../core/address.ts";
import type { Millis } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { InboundPolicyHandle } from "../discovery/index.ts";
import {
  type Client,
  decideInbound,
  filterRequest,
  type InboundDecision,
  isAudit,
  type Permit,
  RateLimiter,
  type RateLimits,
} from "../policy/index.ts";
import {
  asProxyError,
  compose,
  type Dispatcher,
  type Exchange,
  forward,
  grpcStatusOf,
  isGrpc,
  type Layer,
  origProto,
  type Peer,
  type ResponseLayer,
  record,
  rescue,
  type Service,
  type Stack,
  stopped,
} from "../stack/index.ts";
import { Http1ServerConnection } from "../transport/http1-server.ts";
import { Http2ServerConnection } from "../transport/http2-server.ts";
import { Http1Pool, Http2Pool } from "../transport/pool.ts";
import { MESH_WINDOW_BYTES } from "../wire/http2/index.ts";
import { adminOnly } from "./admin.ts";
import { type Arrival, appAddressOf } from "./arrival.ts";
import type { InboundParts } from "./deps.ts";
import { InFlight, inFlight } from "./in-flight.ts";

// A peer that proved an identity carries everybody's requests over one connection; anyone else speaks for itself.
const MESH_STREAMS = 1_000;
const CLIENT_STREAMS = 100;
// An application on this host sends so much of an answer before the client has taken any: a hundred streams of a client that never
// reads then hold 1.6 MB, not 6.5, and the answers of others do not wait behind as much in the connection that all share.
const FIRST_WINDOW_BYTES = 16 * 1024;
// Linkerd: LINKERD2_PROXY_INBOUND_CONNECT_EXP_BACKOFF, 100 ms to 10 s.
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 10_000;
// Linkerd: LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT.
const MAX_IN_FLIGHT = 100_000;
// Linkerd: LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT. A meshed peer may name any port, so stacks must come and go.
const IDLE_MS = 90_000;

/** Serves HTTP connections to the host's workload. */
export class InboundHttp {
  readonly #deps: InboundParts;
  /** One stack and its pools per application address and road. */
  readonly #targets = new Map<string, Target>();
  readonly #roads: Readonly<Record<Arrival["road"], InFlight>>;

  constructor(deps: InboundParts) {
    this.#deps = deps;
    const limit = deps.config.maxInFlight ?? MAX_IN_FLIGHT;
    this.#roads = { redirected: new InFlight(limit), direct: new InFlight(limit) };
  }

  serve(version: "1" | "2", arrival: Arrival, socket: Socket, client: Client, first: Buffer | undefined): void {
    const { runtime, connections } = this.#deps;
    const peer: Peer = { address: arrival.originalClient, originalDst: arrival.originalDst, client };
    const target = this.#target(arrival);
    target.open++;
    const meter = this.#deps.meters.accepted(peer, arrival.handle.current.ref);
    arrival.handle.retain();
    const closed = (connection: Http1ServerConnection | Http2ServerConnection) => {
      arrival.handle.release();
      target.open--;
      target.unusedSince = runtime.clock.now();
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
              ...(client.tls === "identity" ? { maxStreamWindowBytes: MESH_WINDOW_BYTES } : {}),
            },
            (c) => closed(c as Http2ServerConnection),
          );
    connections.add(connection);
    connection.start(first);
  }

  /** Forgets the targets that no connection has used for a while. */
  expire(now: Millis): void {
    for (const [key, target] of this.#targets) {
      if (target.open > 0 || now - target.unusedSince < IDLE_MS) continue;
      this.#targets.delete(key);
      target.close();
    }
  }

  close(): void {
    for (const target of this.#targets.values()) target.close();
    this.#targets.clear();
  }

  #target(arrival: Arrival): Target {
    const key = `${arrival.road} ${formatSocketAddress(arrival.originalDst)}`;
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = newTarget(this.#deps, arrival, this.#roads[arrival.road]);
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
  /** Connections that it serves. */
  open: number;
  unusedSince: Millis;
  close(): void;
}

/** The policy of the port that a stack serves, as the worker's cache holds it now. */
interface ServedPort {
  handle: InboundPolicyHandle;
}

/** Logs why requests are not answered by the application: what its operator, or the policy's author, has to know. */
function said({ seldom, runtime: { log, clock } }: InboundParts): (x: Exchange, error: ProxyError) => void {
  return (x, error) => {
    const { port } = x.peer.originalDst;
    switch (error.reason) {
      case "connect-failed":
      case "connect-timeout":
      case "failfast":
        if (seldom.due(`unreachable ${port}`, clock.now()))
          log.info("application unreachable", { port, why: error.message });
        return;
      case "unauthorized":
      case "route-not-found":
      case "rate-limited": {
        const client = x.peer.client.id ?? x.peer.address.ip;
        const { judge, route } = x;
        if (!seldom.due(`${error.reason} ${client} ${port} ${route?.name}`, clock.now())) return;
        log.info("refused a request", {
          client,
          port,
          server: judge?.name ?? "",
          route: route?.name ?? "",
          why: error.reason,
        });
        return;
      }
      default:
    }
  };
}

/** The inbound stack, read top to bottom; built once per application address. */
function newTarget(deps: InboundParts, arrival: Arrival, road: InFlight): Target {
  const { runtime, config } = deps;
  const app = { address: appAddressOf(config, arrival), tls: undefined };
  const isAdmin = app.address !== arrival.originalDst;
  // A request that came with a transport header must name its authority itself.
  const fallback = arrival.road === "direct" ? undefined : formatSocketAddress(arrival.originalDst);
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
      http2: { firstWindowBytes: FIRST_WINDOW_BYTES },
      backoffMinMs: BACKOFF_MIN_MS,
      backoffMaxMs: BACKOFF_MAX_MS,
      failfastMs: config.failfastMs,
      rng: deps.rng,
    },
    () => {},
  );
  // By the request's own version, after the mark of HTTP/1 carried in HTTP/2 was taken off.
  const choose = (x: Exchange): Dispatcher => {
    const pool = x.request.version === "2" ? http2 : http1;
    // One that waits for a connection in vain never came as far as the application.
    if (pool.ready) deps.recorder.dispatched(x);
    return pool;
  };
  const stack = compose(
    [
      record(deps.recorder),
      rescue({ informs: (x) => x.peer.client.tls === "identity", onError: said(deps) }),
      inFlight(road), // 503 before any work is done
      origProto(), // HTTP/1 in HTTP/2's clothes becomes HTTP/1 again
      grpcStatus(), // for the metrics
      clientIdentity(), // who speaks, as we know it; never as the client says it
      authority(fallback),
      authorized(port, deps), // 404, 403 or a permit; filters, rate limits
      ...(config.admin !== undefined && isAdmin ? [adminOnly(config.admin)] : []),
    ],
    forward(choose),
  );
  return {
    stack,
    port,
    open: 0,
    unusedSince: runtime.clock.now(),
    close() {
      http1.close();
      http2.close();
    },
  };
}

/** Notes how a gRPC call ended: its answer says it in trailers, or in the head if it has nothing else to say. */
function grpcStatus(): Layer {
  return { named: "grpc-status", wrap: (inner) => new GrpcStatus(inner) };
}

class GrpcStatus implements Service, ResponseLayer {
  readonly #inner: Service;

  constructor(inner: Service) {
    this.#inner = inner;
  }

  call(x: Exchange): void {
    if (isGrpc(x.request)) x.observe(this);
    this.#inner.call(x);
  }

  onResponse(x: Exchange, head: ResponseHead): void {
    x.grpcStatus = grpcStatusOf(head.headers);
  }

  onTrailers(x: Exchange, trailers: HeaderList): void {
    x.grpcStatus = grpcStatusOf(trailers) ?? x.grpcStatus;
  }
}

/**
 * `l5d-client-id` says who the client proved to be, or is absent. Who proved nothing has no certificate to speak of
 * either: Envoy's `x-forwarded-client-cert` would be one that it made up.
 */
function clientIdentity(): Layer {
  return {
    named: "client-identity",
    wrap: (inner) => ({
      call(x: Exchange) {
        const { id } = x.peer.client;
        const { headers } = x.request;
        if (id !== undefined) headers.set(H.l5dClientId, id);
        else {
          if (headers.has(H.l5dClientId)) headers.remove(H.l5dClientId.lower);
          if (headers.has(H.xForwardedClientCert)) headers.remove(H.xForwardedClientCert.lower);
        }
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
function authorized(port: ServedPort, deps: InboundParts): Layer {
  return { named: "authorized", wrap: (inner) => new Authorized(inner, port, deps) };
}

class Authorized implements Service {
  readonly #inner: Service;
  readonly #port: ServedPort;
  readonly #deps: InboundParts;
  #limited: RateLimits | undefined;
  #limiter: RateLimiter | undefined;

  constructor(inner: Service, port: ServedPort, deps: InboundParts) {
    this.#inner = inner;
    this.#port = port;
    this.#deps = deps;
  }

  call(x: Exchange): void {
    const policy = this.#port.handle.current;
    let decision: InboundDecision;
    try {
      decision = decideInbound(policy, x.request, x.peer.client);
    } catch (error) {
      x.judge = policy.ref;
      // A text that no expression can be tested on in time: nobody knows whose route it is.
      return x.fail(asProxyError(error));
    }
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
    this.#deps.recorder.permitted(x);
    if (isAudit(permit.authorization)) this.#audited(x, permit);
    if (permit.rule.filters.length > 0) {
      const stop = filterRequest(permit.rule.filters, x.request, permit.match, this.#deps.rng);
      if (stop !== undefined) return x.fail(stopped(stop));
    }
    const { protocol } = permit.policy;
    if ("rateLimits" in protocol && protocol.rateLimits !== undefined) {
      const over = this.#limiterFor(protocol.rateLimits, x.peer.originalDst.port).take(
        x.peer.client.id,
        this.#deps.runtime.clock.now(),
      );
      if (over !== undefined) {
        const scope = over.which === "total" ? "total" : "identity";
        this.#deps.meters.limited(x.peer, permit.policy.ref, protocol.rateLimits.ref, scope);
        return x.fail(
          new ProxyError("rate-limited", this.#context(x, `${over.which} rate limit exceeded: ${over.limit}rps`)),
        );
      }
    }
    this.#deps.recorder.sent(x);
    this.#inner.call(x);
  }

  #limiterFor(limits: RateLimits, port: number): RateLimiter {
    if (this.#limiter === undefined || this.#limited !== limits) {
      this.#limited = limits;
      this.#limiter = new RateLimiter(limits, port, this.#deps.buckets);
    }
    return this.#limiter;
  }

  /** Who would be refused by a stricter policy: what the policy named `audit` is for. */
  #audited(x: Exchange, permit: Permit): void {
    const { seldom, runtime } = this.#deps;
    const client = x.peer.client.id ?? x.peer.address.ip;
    const { port } = x.peer.originalDst;
    if (!seldom.due(`audit ${client} ${port}`, runtime.clock.now())) return;
    runtime.log.info("request allowed", {
      client,
      port,
      server: permit.policy.ref.name,
      authorization: permit.authorization.ref.name,
    });
  }

  #context(x: Exchange, text: string): string {
    return `client ${formatSocketAddress(x.peer.address)}: server: ${formatSocketAddress(x.peer.originalDst)}: ${text}`;
  }
}
