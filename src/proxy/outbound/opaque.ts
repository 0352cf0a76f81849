import type { Socket } from "node:net";
import { EndpointSet, firstAvailable, randomAvailable, type Slot } from "../balance/index.ts";
import type { SocketAddress } from "../core/address.ts";
import type { Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { ProxyError } from "../core/errors.ts";
import type { SocketMeter } from "../core/metrics.ts";
import type { EndpointsHandle, OutboundHandle } from "../discovery/index.ts";
import {
  type Backend,
  type ConnectionFilter,
  type ConnectionRoute,
  type Dispatch,
  findTlsRoute,
  type RouteBackend,
} from "../policy/index.ts";
import type { BalancerMeter, ConnectionFailure, RouteClose, RouteMeter } from "../stack/index.ts";
import { abort } from "../transport/abort.ts";
import { connect } from "../transport/connect.ts";
import type { Drainable } from "../transport/connections.ts";
import { relay } from "../transport/pump.ts";
import type { Timed } from "../transport/timer-wheel.ts";
import type { OutboundDeps } from "./deps.ts";
import { connectTarget, refusalOf } from "./endpoint.ts";
import { Slices } from "./slices.ts";
import { type Suspect, Suspicion } from "./suspicion.ts";

/** Carries connections that are not parsed: each gets one endpoint, over mTLS where the endpoint has an identity. */
export class OutboundOpaque {
  readonly #deps: OutboundDeps;
  readonly #handle: OutboundHandle;
  readonly #originalDst: SocketAddress;
  readonly #balancers = new Map<string, TcpBalancer>();
  /** Of endpoints that the policy itself names. */
  readonly #suspicion: Suspicion;
  readonly #unsubscribe: () => void;

  constructor(deps: OutboundDeps, handle: OutboundHandle, originalDst: SocketAddress) {
    this.#deps = deps;
    this.#handle = handle;
    this.#originalDst = originalDst;
    this.#suspicion = new Suspicion(handle);
    this.#reconcile();
    this.#unsubscribe = handle.subscribe({ changed: () => this.#reconcile() });
  }

  serve(socket: Socket, first: Buffer | undefined, sni: string | undefined, onClosed: () => void): void {
    const connection = new OpaqueConnection(this.#deps, this.#originalDst, socket, first, onClosed);
    const { policy, profile } = this.#handle.current ?? {};
    const route = policy && (sni === undefined ? policy.opaque : findTlsRoute(policy.tls, sni));
    if (policy === undefined || route === undefined) return connection.refuse("no route", "route-not-found");
    const { meters } = this.#deps;
    const { ip, port } = this.#originalDst;
    connection.routed(
      sni === undefined
        ? meters.tcpRoute(policy.ref, route.ref, profile?.logicalName === undefined ? ip : "", port)
        : meters.tlsRoute(policy.ref, route.ref, sni),
    );
    const filter = route.filters[0];
    if (filter !== undefined) return connection.stop(filter);
    const chosen = this.#choose(route);
    if (chosen === undefined) return connection.refuse("no backend", "load-shed");
    const backendFilter = chosen.filters[0];
    if (backendFilter !== undefined) return connection.stop(backendFilter);
    const { dispatch } = chosen.backend;
    switch (dispatch.kind) {
      case "forward":
        return this.#forward(connection, dispatch.endpoint, chosen.backend);
      case "balancer":
        return this.#balancer(chosen.backend, dispatch, sni === undefined ? "tcp" : "tls").take(connection);
      case "fail":
        return connection.refuse(dispatch.message, "connect-failed", "invalid_backend");
      default:
        dispatch satisfies never;
    }
  }

  close(): void {
    this.#unsubscribe();
    for (const balancer of this.#balancers.values()) balancer.close();
    this.#balancers.clear();
  }

  /** Balancers live as long as the policy names them; before one is chosen it should know whether it has an endpoint. */
  #reconcile(): void {
    const policy = this.#handle.current?.policy;
    const named = new Set<string>();
    const keep = (route: ConnectionRoute, protocol: "tcp" | "tls") => {
      if (route.distribution.kind === "empty") return;
      for (const { backend } of route.distribution.backends) {
        if (backend.dispatch.kind !== "balancer") continue;
        named.add(backend.key);
        this.#balancer(backend, backend.dispatch, protocol);
      }
    };
    if (policy?.opaque !== undefined) keep(policy.opaque, "tcp");
    for (const route of policy?.tls ?? []) keep(route, "tls");
    for (const [key, balancer] of this.#balancers) {
      if (named.has(key)) continue;
      this.#balancers.delete(key);
      balancer.close();
    }
  }

  #forward(connection: OpaqueConnection, endpoint: Endpoint, backend: Backend): void {
    connection.connect(endpoint, backend, (error) => {
      if (error === undefined) this.#suspicion.worked(endpoint.key);
      else this.#suspicion.failed(endpoint.key, this.#deps.runtime.clock.now());
    });
  }

  #choose(route: ConnectionRoute): RouteBackend<ConnectionFilter> | undefined {
    const { distribution } = route;
    if (distribution.kind === "empty") return undefined;
    const isReady = ({ backend }: RouteBackend<ConnectionFilter>) => this.#balancers.get(backend.key)?.ready ?? true;
    const isInhabited = (choice: RouteBackend<ConnectionFilter>) =>
      isReady(choice) && this.#balancers.get(choice.backend.key)?.empty !== true;
    const { backends } = distribution;
    return distribution.kind === "first-available"
      ? (firstAvailable(backends, isInhabited) ?? firstAvailable(backends, isReady))
      : (randomAvailable(backends, isInhabited, this.#deps.rng) ?? randomAvailable(backends, isReady, this.#deps.rng));
  }

  #balancer(backend: Backend, dispatch: Extract<Dispatch, { kind: "balancer" }>, protocol: "tcp" | "tls"): TcpBalancer {
    let balancer = this.#balancers.get(backend.key);
    if (balancer === undefined) {
      balancer = new TcpBalancer(this.#deps, this.#handle, backend, dispatch, protocol);
      this.#balancers.set(backend.key, balancer);
    }
    return balancer;
  }
}

/** Picks an endpoint per connection, by connect latency and attempts under way. */
class TcpBalancer implements Timed {
  wheelTick: number | undefined;
  readonly #deps: OutboundDeps;
  readonly #backend: Backend;
  readonly #set: EndpointSet<undefined>;
  readonly #handle: EndpointsHandle;
  readonly #unsubscribe: () => void;
  readonly #meter: BalancerMeter;
  readonly #suspicion: Suspicion;
  readonly #slices: Slices;
  #queue: { readonly connection: OpaqueConnection; readonly since: Millis }[] = [];
  #waitingSince: Millis = 0;
  #failfast = false;

  /** @param policy - What named this backend: it, too, may be out of date. */
  constructor(
    deps: OutboundDeps,
    policy: Suspect,
    backend: Backend,
    dispatch: Extract<Dispatch, { kind: "balancer" }>,
    protocol: "tcp" | "tls",
  ) {
    this.#deps = deps;
    this.#backend = backend;
    this.#set = new EndpointSet<undefined>(
      { added: (slot) => this.#set.setConnected(slot, true), removed() {} },
      dispatch.load,
      undefined,
      deps.config.endpointWeights !== false,
    );
    this.#meter = deps.meters.balancer(protocol, backend);
    this.#meter.gate(true);
    this.#handle = deps.discovery.endpoints(dispatch.path);
    this.#handle.retain();
    this.#suspicion = new Suspicion(this.#handle, policy);
    this.#slices = new Slices((add, remove) => this.#take(add, remove), deps.runtime.turns.add);
    this.changed([...this.#handle.current.values()], []);
    this.#unsubscribe = this.#handle.subscribe(this);
  }

  /** Whether discovery has said that there is no endpoint. */
  get empty(): boolean {
    return this.#set.size === 0 && this.#handle.state === "ready" && !this.#slices.isBehind;
  }

  get ready(): boolean {
    return !this.#failfast || this.#set.readyCount > 0;
  }

  take(connection: OpaqueConnection): void {
    const now = this.#deps.runtime.clock.now();
    const slot = this.#set.pick(this.#deps.rng, now);
    if (slot !== undefined) {
      this.#set.dispatched(slot);
      connection.connect(slot.endpoint, this.#backend, (error) => this.#measured(slot, now, error));
      return;
    }
    if (this.#failfast) return connection.refuse("no endpoint", "load-shed");
    if (this.#queue.length === 0) this.#waitingSince = now;
    this.#queue.push({ connection, since: now });
    this.#meter.queued();
    this.#deps.runtime.wheel.arm(this);
  }

  changed(add: readonly Endpoint[], remove: readonly string[]): void {
    this.#slices.push(add, remove);
  }

  #take(add: readonly Endpoint[], remove: readonly string[]): void {
    if (add.length > 0) this.#meter.updated(this.#set.size === 0 ? "Reset" : "Add");
    this.#set.change(add, remove, this.#deps.runtime.clock.now());
    for (const key of remove) this.#suspicion.worked(key);
    if (remove.length > 0) this.#meter.updated("Remove");
    this.#meter.endpoints(this.#set.readyCount, this.#set.size - this.#set.readyCount);
    if (this.#set.readyCount === 0) return;
    if (this.#failfast) this.#meter.gate(true);
    this.#failfast = false;
    for (const connection of this.#dequeue()) if (!connection.gone) this.take(connection);
  }

  timeoutAt(): Millis | undefined {
    return this.#queue.length > 0 ? this.#waitingSince + this.#deps.config.failfastMs : undefined;
  }

  expire(_now: Millis): void {
    this.#failfast = true;
    this.#meter.gate(false);
    this.#suspicion.starved();
    for (const connection of this.#dequeue()) connection.refuse("no endpoint in time", "failfast");
  }

  close(): void {
    this.#unsubscribe();
    this.#handle.release();
    this.#slices.stop();
    this.#deps.runtime.wheel.disarm(this);
    for (const connection of this.#dequeue()) connection.refuse("destination dropped", "load-shed");
    this.#meter.closed();
  }

  #dequeue(): OpaqueConnection[] {
    const queue = this.#queue;
    this.#queue = [];
    const now = this.#deps.runtime.clock.now();
    for (const { since } of queue) this.#meter.dequeued((now - since) / 1_000);
    return queue.map(({ connection }) => connection);
  }

  #measured(slot: Slot<undefined>, dispatchedAt: Millis, error: ProxyError | undefined): void {
    const now = this.#deps.runtime.clock.now();
    // Who refuses is quick, and would draw every connection.
    const since = error === undefined ? dispatchedAt : Math.min(dispatchedAt, now - this.#deps.config.connectTimeoutMs);
    this.#set.measured(slot, since, now);
    if (error === undefined) this.#suspicion.worked(slot.endpoint.key);
    else this.#suspicion.failed(slot.endpoint.key, now);
  }
}

/** One connection of the application, from waiting for an endpoint to the end of both directions. */
class OpaqueConnection implements Drainable {
  readonly #deps: OutboundDeps;
  readonly #originalDst: SocketAddress;
  readonly #meter: SocketMeter;
  readonly #socket: Socket;
  readonly #first: Buffer | undefined;
  readonly #onClosed: () => void;
  #route: RouteMeter | undefined;
  #routeClose: RouteClose = "";
  #giveUp: (() => void) | undefined;
  #endpoint: Socket | undefined;
  #done = false;
  readonly #onClose = () => {
    this.#giveUp?.();
    this.#meter.closed("");
    this.#finish();
  };

  constructor(
    deps: OutboundDeps,
    originalDst: SocketAddress,
    socket: Socket,
    first: Buffer | undefined,
    onClosed: () => void,
  ) {
    this.#deps = deps;
    this.#originalDst = originalDst;
    this.#meter = deps.meters.accepted(originalDst);
    if (first !== undefined) this.#meter.read(first.length);
    this.#socket = socket;
    this.#first = first;
    this.#onClosed = onClosed;
    deps.connections.add(this);
    socket.once("close", this.#onClose);
  }

  get gone(): boolean {
    return this.#done || this.#socket.destroyed;
  }

  routed(route: RouteMeter): void {
    this.#route = route;
    route.opened();
  }

  connect(endpoint: Endpoint, backend: Backend, measured: (error: ProxyError | undefined) => void): void {
    const { mesh, meters, config, runtime, tune } = this.#deps;
    const refusal = refusalOf(this.#deps, endpoint);
    if (refusal !== undefined) {
      measured(undefined);
      return this.refuse(refusal.message, refusal.reason);
    }
    this.#giveUp = connect(
      connectTarget(this.#deps, endpoint, undefined),
      { timeoutMs: config.connectTimeoutMs, context: mesh.context, tune },
      {
        connected: (opened) => {
          measured(undefined);
          this.#endpoint = opened;
          this.#giveUp = undefined;
          this.#socket.off("close", this.#onClose);
          relay(
            { socket: this.#socket, unread: this.#first, meter: this.#meter },
            { socket: opened, unread: undefined, meter: meters.dialled(endpoint, backend) },
            runtime,
            () => this.#finish(),
          );
        },
        failed: (error: ProxyError) => {
          measured(error);
          meters.failed(this.#originalDst, error.reason);
          this.#routeClose = "unexpected";
          runtime.log.info("endpoint unreachable", { why: error.message });
          abort(this.#socket);
        },
      },
    );
  }

  refuse(why: string, failure: ConnectionFailure, close: RouteClose = "unexpected"): void {
    this.#deps.meters.failed(this.#originalDst, failure);
    this.#routeClose = close;
    this.#deps.runtime.log.info("refused a connection", { why });
    abort(this.#socket);
  }

  /** A filter of the route, or of its backend, ends every connection. */
  stop(filter: ConnectionFilter): void {
    if (filter.kind === "forbidden") this.refuse("forbidden by policy", "unexpected", "forbidden");
    else this.refuse("the policy is invalid", "unexpected", "invalid_policy");
  }

  /** Opaque streams run on until the drain's limit. */
  drain(): void {}

  destroy(): void {
    this.#socket.destroy();
    this.#endpoint?.destroy();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#deps.connections.delete(this);
    this.#route?.closed(this.#routeClose);
    this.#onClosed();
  }
}
