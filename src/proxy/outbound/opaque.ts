import type { Socket } from "node:net";
import { EndpointSet, firstAvailable, randomAvailable, type Slot } from "../balance/index.ts";
import type { Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { ProxyError } from "../core/errors.ts";
import type { EndpointsHandle, OutboundHandle } from "../discovery/index.ts";
import {
  type Backend,
  type ConnectionFilter,
  type ConnectionRoute,
  type Dispatch,
  findTlsRoute,
  type RouteBackend,
} from "../policy/index.ts";
import { abort } from "../transport/abort.ts";
import { connect } from "../transport/connect.ts";
import type { Drainable } from "../transport/connections.ts";
import { relay } from "../transport/pump.ts";
import type { Timed } from "../transport/timer-wheel.ts";
import type { OutboundDeps } from "./deps.ts";
import { connectTarget, isLocal } from "./endpoint.ts";

/** Carries connections that are not parsed: each gets one endpoint, over mTLS where the endpoint has an identity. */
export class OutboundOpaque {
  readonly #deps: OutboundDeps;
  readonly #handle: OutboundHandle;
  readonly #balancers = new Map<string, TcpBalancer>();

  constructor(deps: OutboundDeps, handle: OutboundHandle) {
    this.#deps = deps;
    this.#handle = handle;
  }

  serve(socket: Socket, first: Buffer | undefined, sni: string | undefined, onClosed: () => void): void {
    const connection = new OpaqueConnection(this.#deps, socket, first, onClosed);
    const route = this.#route(sni);
    if (route === undefined || route.filters.length > 0) return connection.refuse("no route, or forbidden by policy");
    const chosen = this.#choose(route);
    if (chosen === undefined || chosen.filters.length > 0) return connection.refuse("no backend");
    const { dispatch } = chosen.backend;
    switch (dispatch.kind) {
      case "forward":
        return connection.connect(dispatch.endpoint, undefined);
      case "balancer":
        return this.#balancer(chosen.backend, dispatch).take(connection);
      case "fail":
        return connection.refuse(dispatch.message);
      default:
        dispatch satisfies never;
    }
  }

  close(): void {
    for (const balancer of this.#balancers.values()) balancer.close();
    this.#balancers.clear();
  }

  #route(sni: string | undefined): ConnectionRoute | undefined {
    const policy = this.#handle.current?.policy;
    if (policy === undefined) return undefined;
    return sni === undefined ? policy.opaque : findTlsRoute(policy.tls, sni);
  }

  #choose(route: ConnectionRoute): RouteBackend<ConnectionFilter> | undefined {
    const { distribution } = route;
    if (distribution.kind === "empty") return undefined;
    const isReady = ({ backend }: RouteBackend<ConnectionFilter>) => this.#balancers.get(backend.key)?.ready ?? true;
    return distribution.kind === "first-available"
      ? firstAvailable(distribution.backends, isReady)
      : randomAvailable(distribution.backends, isReady, this.#deps.rng);
  }

  #balancer(backend: Backend, dispatch: Extract<Dispatch, { kind: "balancer" }>): TcpBalancer {
    let balancer = this.#balancers.get(backend.key);
    if (balancer === undefined) {
      balancer = new TcpBalancer(this.#deps, dispatch);
      this.#balancers.set(backend.key, balancer);
    }
    return balancer;
  }
}

/** Picks an endpoint per connection, by connect latency and attempts under way. */
class TcpBalancer implements Timed {
  readonly #deps: OutboundDeps;
  readonly #set: EndpointSet<undefined>;
  readonly #handle: EndpointsHandle;
  readonly #unsubscribe: () => void;
  #queue: OpaqueConnection[] = [];
  #waitingSince: Millis = 0;
  #failfast = false;

  constructor(deps: OutboundDeps, dispatch: Extract<Dispatch, { kind: "balancer" }>) {
    this.#deps = deps;
    this.#set = new EndpointSet<undefined>(
      { added: (slot) => this.#set.setConnected(slot, true), removed() {} },
      dispatch.load,
      undefined,
    );
    this.#handle = deps.discovery.endpoints(dispatch.path);
    this.#handle.retain();
    this.#set.reset(this.#handle.current.values(), deps.runtime.clock.now());
    this.#unsubscribe = this.#handle.subscribe(this);
  }

  get ready(): boolean {
    return !this.#failfast || this.#set.readyCount > 0;
  }

  take(connection: OpaqueConnection): void {
    const now = this.#deps.runtime.clock.now();
    const slot = this.#set.pick(this.#deps.rng, now);
    if (slot !== undefined) {
      this.#set.dispatched(slot);
      connection.connect(slot.endpoint, () => this.#measured(slot, now));
      return;
    }
    if (this.#failfast) return connection.refuse("no endpoint");
    if (this.#queue.length === 0) this.#waitingSince = now;
    this.#queue.push(connection);
    this.#deps.runtime.wheel.arm(this);
  }

  changed(add: readonly Endpoint[], remove: readonly string[]): void {
    this.#set.change(add, remove, this.#deps.runtime.clock.now());
    if (this.#set.readyCount === 0) return;
    this.#failfast = false;
    const queue = this.#queue;
    this.#queue = [];
    for (const connection of queue) if (!connection.gone) this.take(connection);
  }

  timeoutAt(): Millis | undefined {
    return this.#queue.length > 0 ? this.#waitingSince + this.#deps.config.failfastMs : undefined;
  }

  expire(_now: Millis): void {
    this.#failfast = true;
    const queue = this.#queue;
    this.#queue = [];
    for (const connection of queue) connection.refuse("no endpoint in time");
  }

  close(): void {
    this.#unsubscribe();
    this.#handle.release();
    this.#deps.runtime.wheel.disarm(this);
    const queue = this.#queue;
    this.#queue = [];
    for (const connection of queue) connection.refuse("destination dropped");
  }

  #measured(slot: Slot<undefined>, dispatchedAt: Millis): void {
    this.#set.measured(slot, dispatchedAt, this.#deps.runtime.clock.now());
  }
}

/** One connection of the application, from waiting for an endpoint to the end of both directions. */
class OpaqueConnection implements Drainable {
  readonly #deps: OutboundDeps;
  readonly #socket: Socket;
  readonly #first: Buffer | undefined;
  readonly #onClosed: () => void;
  #giveUp: (() => void) | undefined;
  #endpoint: Socket | undefined;
  #done = false;
  readonly #onClose = () => {
    this.#giveUp?.();
    this.#finish();
  };

  constructor(deps: OutboundDeps, socket: Socket, first: Buffer | undefined, onClosed: () => void) {
    this.#deps = deps;
    this.#socket = socket;
    this.#first = first;
    this.#onClosed = onClosed;
    deps.connections.add(this);
    socket.once("close", this.#onClose);
  }

  get gone(): boolean {
    return this.#done || this.#socket.destroyed;
  }

  connect(endpoint: Endpoint, measured: (() => void) | undefined): void {
    const { mesh, config, runtime } = this.#deps;
    if (endpoint.expectsIdentity && endpoint.identity === undefined && !isLocal(this.#deps, endpoint)) {
      measured?.();
      return this.refuse(`endpoint ${endpoint.key} should be meshed, but its identity is unusable`);
    }
    this.#giveUp = connect(
      connectTarget(this.#deps, endpoint, undefined),
      { timeoutMs: config.connectTimeoutMs, context: mesh.context },
      {
        connected: (opened) => {
          measured?.();
          this.#endpoint = opened;
          this.#giveUp = undefined;
          this.#socket.off("close", this.#onClose);
          relay(this.#socket, opened, this.#first, undefined, () => this.#finish());
        },
        failed: (error: ProxyError) => {
          measured?.();
          runtime.log.info("endpoint unreachable", { why: error.message });
          abort(this.#socket);
        },
      },
    );
  }

  refuse(why: string): void {
    this.#deps.runtime.log.info("refused a connection", { why });
    abort(this.#socket);
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
    this.#onClosed();
  }
}
