import { EndpointSet, parseRetryAfter, penaltyOf, type Slot } from "../balance/index.ts";
import type { Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { ProxyError } from "../core/errors.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { EndpointsHandle } from "../discovery/index.ts";
import { type Backend, type Dispatch, isFailure, type LoadConfig } from "../policy/index.ts";
import {
  type BalancerMeter,
  type Exchange,
  grpcStatusOf,
  isGrpc,
  type ResponseLayer,
  type Service,
  stripPeerErrors,
} from "../stack/index.ts";
import type { Timed } from "../transport/timer-wheel.ts";
import type { OutboundDeps } from "./deps.ts";
import { Dials } from "./dials.ts";
import { type EndpointService, endpointService } from "./endpoint.ts";
import { Slices } from "./slices.ts";
import { Spares } from "./spares.ts";
import { isUnreached, type Suspect, Suspicion } from "./suspicion.ts";

// Linkerd: LINKERD2_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY.
const MAX_QUEUED = 10_000;
// Linkerd connects to every endpoint at once. 5,000 connections are no use to a host: this many are kept, and an endpoint
// that does not answer gives its place to another.
const MAX_EAGER = 64;

type BalancerDispatch = Extract<Dispatch, { kind: "balancer" }>;

/**
 * The endpoints of one backend, balanced by power of two choices over peak EWMA. Requests wait here while no endpoint
 * is ready, up to the fail-fast time; after it they are refused at once until one is.
 */
export class Balancer implements Service, ResponseLayer, Timed {
  wheelTick: number | undefined;
  readonly #deps: OutboundDeps;
  readonly #set: EndpointSet<EndpointService>;
  readonly #handle: EndpointsHandle;
  readonly #unsubscribe: () => void;
  readonly #backend: Backend;
  readonly #version: "1" | "2";
  readonly #load: LoadConfig;
  readonly #meter: BalancerMeter;
  readonly #suspicion: Suspicion;
  readonly #slices: Slices;
  readonly #dials: Dials<Slot<EndpointService>>;
  /** Endpoints that are kept connected, and those that would be if there were room. */
  readonly #eager = new Set<Slot<EndpointService>>();
  readonly #spare: Spares<Slot<EndpointService>>;
  #queue: Exchange[] = [];
  #waitingSince: Millis = 0;
  #failfast = false;
  #shownReady = -1;
  #shownSize = -1;

  /** @param policy - What named this backend: it, too, may be out of date. */
  constructor(deps: OutboundDeps, policy: Suspect, backend: Backend, dispatch: BalancerDispatch, version: "1" | "2") {
    this.#deps = deps;
    this.#backend = backend;
    this.#version = version;
    this.#load = dispatch.load;
    this.#spare = new Spares(deps.rng);
    const { turns } = deps.runtime;
    this.#slices = new Slices((add, remove) => this.#take(add, remove), turns.add);
    this.#dials = new Dials(
      (slot) => {
        if (slot.removed || !this.#eager.has(slot) || slot.attachment?.ready !== false) return false;
        slot.attachment.connect();
        return true;
      },
      turns.add,
      (ms, callback) => void setTimeout(callback, ms).unref(),
    );
    this.#meter = deps.meters.balancer("http", backend);
    this.#set = new EndpointSet<EndpointService>(
      this,
      dispatch.load,
      backend.failureAccrual,
      deps.config.endpointWeights !== false,
    );
    this.#handle = deps.discovery.endpoints(dispatch.path);
    this.#handle.retain();
    this.#suspicion = new Suspicion(this.#handle, policy);
    this.#meter.gate(true);
    this.changed([...this.#handle.current.values()], []);
    this.#unsubscribe = this.#handle.subscribe(this);
  }

  /** Whether the distribution may choose this backend. */
  get ready(): boolean {
    return (!this.#failfast || this.#set.readyCount > 0) && this.#queue.length < MAX_QUEUED;
  }

  /** Whether discovery has said that there is no endpoint. While it has not spoken there may be some. */
  get empty(): boolean {
    return this.#set.size === 0 && this.#handle.state === "ready" && !this.#slices.isBehind;
  }

  call(x: Exchange): void {
    if (this.#queue.length > 0 || !this.#dispatch(x)) this.#enqueue(x);
  }

  close(): void {
    this.#unsubscribe();
    this.#handle.release();
    this.#deps.runtime.wheel.disarm(this);
    this.#slices.stop();
    this.#dials.stop();
    this.#spare.clear();
    this.#set.reset([], this.#deps.runtime.clock.now());
    this.#refuseQueued();
    this.#meter.closed();
  }

  // --- discovery and endpoints -------------------------------------------------------------------------------------

  changed(add: readonly Endpoint[], remove: readonly string[]): void {
    this.#slices.push(add, remove);
  }

  #take(add: readonly Endpoint[], remove: readonly string[]): void {
    if (add.length > 0) this.#meter.updated(this.#set.size === 0 ? "Reset" : "Add");
    this.#set.change(add, remove, this.#deps.runtime.clock.now());
    if (remove.length > 0) this.#meter.updated("Remove");
    this.#serve();
    this.#show();
  }

  added(slot: Slot<EndpointService>): void {
    const service = endpointService(this.#deps, slot.endpoint, this.#backend, this.#version, () => {
      if (!slot.removed) this.#readinessChanged(slot, service);
    });
    slot.attachment = service;
    if (this.#eager.size < MAX_EAGER) this.#keepConnected(slot);
    else this.#spare.add(slot);
    this.#set.setConnected(slot, service.ready);
  }

  removed(slot: Slot<EndpointService>): void {
    // Nobody is sent there any more; to say so to the peer, and to sixty others, can wait.
    const service = slot.attachment;
    if (service?.hasConnections) this.#deps.runtime.turns.add(() => service.close());
    else service?.close();
    this.#suspicion.worked(slot.endpoint.key);
    if (this.#eager.delete(slot)) this.#connectSpare();
    else this.#spare.delete(slot);
  }

  #readinessChanged(slot: Slot<EndpointService>, service: EndpointService): void {
    this.#set.setConnected(slot, service.ready);
    this.#dials.settled(slot);
    if (service.ready) {
      this.#suspicion.worked(slot.endpoint.key);
      this.#serve();
    } else if (this.#eager.has(slot)) {
      if (service.failing) this.#unreachable(slot);
      // A connection that was lost comes back without waiting for a request.
      if (this.#eager.has(slot)) this.#dials.add(slot);
    }
    this.#show();
  }

  #unreachable(slot: Slot<EndpointService>): void {
    this.#suspicion.failed(slot.endpoint.key, this.#deps.runtime.clock.now());
    if (!this.#connectSpare(slot)) return;
    this.#spare.add(slot);
  }

  #keepConnected(slot: Slot<EndpointService>): void {
    this.#eager.add(slot);
    this.#dials.add(slot);
  }

  /**
   * Which one is left to chance: the first ones would be the same on all hosts. Not one that goes next.
   * @param instead - Gives up its place.
   * @returns false: there is nobody to take one.
   */
  #connectSpare(instead?: Slot<EndpointService>): boolean {
    let next = this.#spare.draw();
    while (next !== undefined && this.#slices.isLeaving(next.endpoint.key)) next = this.#spare.draw();
    if (next === undefined) return false;
    if (instead !== undefined) this.#eager.delete(instead);
    this.#keepConnected(next);
    return true;
  }

  #show(): void {
    const { size, readyCount } = this.#set;
    if (readyCount === this.#shownReady && size === this.#shownSize) return;
    this.#shownReady = readyCount;
    this.#shownSize = size;
    this.#meter.endpoints(readyCount, size - readyCount);
  }

  // --- the queue ---------------------------------------------------------------------------------------------------

  timeoutAt(): Millis | undefined {
    const probeAt = this.#set.timeoutAt();
    const failAt = this.#queue.length > 0 ? this.#waitingSince + this.#deps.config.failfastMs : undefined;
    if (probeAt === undefined) return failAt;
    return failAt === undefined ? probeAt : Math.min(probeAt, failAt);
  }

  expire(now: Millis): void {
    this.#set.expire(now);
    this.#serve();
    this.#show();
    if (this.#queue.length === 0 || now < this.#waitingSince + this.#deps.config.failfastMs) return;
    this.#failfast = true;
    this.#meter.gate(false);
    this.#suspicion.starved();
    this.#refuseQueued();
  }

  #enqueue(x: Exchange): void {
    if (this.#failfast || this.#queue.length >= MAX_QUEUED) return x.fail(new ProxyError("load-shed"));
    if (this.#queue.length === 0) this.#waitingSince = this.#deps.runtime.clock.now();
    x.dispatchedAt = this.#deps.runtime.clock.now();
    this.#queue.push(x);
    this.#meter.queued();
    this.#deps.runtime.wheel.arm(this);
  }

  #refuseQueued(): void {
    const queued = this.#queue;
    this.#queue = [];
    for (const x of queued) {
      this.#dequeued(x);
      x.fail(new ProxyError("failfast"));
    }
  }

  #serve(): void {
    if (this.#failfast && this.#set.readyCount > 0) {
      this.#failfast = false;
      this.#meter.gate(true);
    }
    while (this.#queue.length > 0) {
      const x = this.#queue[0] as Exchange;
      const since = x.dispatchedAt;
      if (!x.ended && !this.#dispatch(x)) return;
      this.#meter.dequeued((this.#deps.runtime.clock.now() - since) / 1_000);
      this.#queue.shift();
    }
  }

  #dequeued(x: Exchange): void {
    this.#meter.dequeued((this.#deps.runtime.clock.now() - x.dispatchedAt) / 1_000);
  }

  #dispatch(x: Exchange): boolean {
    const now = this.#deps.runtime.clock.now();
    const slot = this.#set.pick(this.#deps.rng, now);
    if (slot === undefined) return false;
    this.#set.dispatched(slot);
    x.slot = slot;
    x.endpoint = slot.endpoint;
    x.dispatchedAt = now;
    x.observe(this);
    this.#deps.recorder.dispatched(x);
    slot.attachment?.dispatch(x);
    return true;
  }

  // --- responses: measured at the first frame of the body, classified at the end ------------------------------------

  onResponse(x: Exchange, head: ResponseHead): void {
    if (x.outcome !== "refused") stripPeerErrors(head);
    x.grpcStatus = grpcStatusOf(head.headers);
    if (this.#load.kind === "penalty-peak-ewma") this.#penalize(x, head, this.#load);
  }

  onTrailers(x: Exchange, trailers: HeaderList): void {
    x.grpcStatus ??= grpcStatusOf(trailers);
  }

  onBody(x: Exchange): void {
    this.#measure(x);
    this.#deps.recorder.began(x);
  }

  onEnd(x: Exchange): void {
    const slot = x.slot as Slot<EndpointService>;
    if (x.failure !== undefined && !x.measured && isUnreached(x.failure)) this.#unreached(x);
    else this.#measure(x);
    const rule = x.choice?.rule.classify ?? { kind: "http" };
    const { response } = x;
    const failed =
      x.outcome === "endpoint-failed" ||
      x.outcome === "refused" ||
      (response !== undefined && isFailure(rule, isGrpc(x.request), response.status, x.grpcStatus));
    const degraded = response?.status === 429 || x.grpcStatus === 8;
    const outcome =
      x.outcome === "client-gone" && response === undefined
        ? "abandoned"
        : failed
          ? "failure"
          : degraded
            ? "degraded"
            : "success";
    this.#set.classified(slot, outcome, this.#deps.runtime.clock.now(), this.#deps.rng);
    if (this.#set.timeoutAt() !== undefined) this.#deps.runtime.wheel.arm(this);
    if (failed && x.failure !== undefined) this.#tell(slot, x.failure);
    else this.#suspicion.worked(slot.endpoint.key);
    this.#show();
  }

  #tell(slot: Slot<EndpointService>, { reason }: ProxyError): void {
    if (reason === "connect-failed" || reason === "connect-timeout" || reason === "identity-mismatch")
      this.#suspicion.failed(slot.endpoint.key, this.#deps.runtime.clock.now());
  }

  /** A failure counts as a long response time, at once (outbound.md §5.3). */
  #penalize(x: Exchange, head: ResponseHead, load: Extract<LoadConfig, { kind: "penalty-peak-ewma" }>): void {
    const hint = head.headers.get(H.retryAfter);
    const pushback = head.headers.getByLower("grpc-retry-pushback-ms");
    const hintMs =
      hint === undefined
        ? pushback !== undefined && /^\d{1,10}$/.test(pushback)
          ? Number(pushback)
          : undefined
        : parseRetryAfter(hint, this.#deps.runtime.clock.wallMs());
    const penaltyMs = penaltyOf(load, head.status, head.status === 200 ? x.grpcStatus : undefined, hintMs);
    if (penaltyMs !== undefined) this.#measure(x, penaltyMs);
  }

  /** Nobody is as quick as who refuses: counted for what it took, it would draw every request. */
  #unreached(x: Exchange): void {
    x.measured = true;
    const now = this.#deps.runtime.clock.now();
    const since = Math.min(x.dispatchedAt, now - this.#deps.config.connectTimeoutMs);
    this.#set.measured(x.slot as Slot<EndpointService>, since, now);
  }

  #measure(x: Exchange, penaltyMs?: number): void {
    if (x.measured) return;
    x.measured = true;
    this.#set.measured(x.slot as Slot<EndpointService>, x.dispatchedAt, this.#deps.runtime.clock.now(), penaltyMs);
  }
}
