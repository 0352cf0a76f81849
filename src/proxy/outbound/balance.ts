import { EndpointSet, parseRetryAfter, penaltyOf, type Slot } from "../balance/index.ts";
import type { Millis } from "../core/clock.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { ProxyError } from "../core/errors.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { EndpointsHandle } from "../discovery/index.ts";
import { type Backend, type Dispatch, isFailure, type LoadConfig } from "../policy/index.ts";
import { type Exchange, isGrpc, type ResponseLayer, type Service, stripPeerErrors } from "../stack/index.ts";
import type { Timed } from "../transport/timer-wheel.ts";
import type { OutboundDeps } from "./deps.ts";
import { type EndpointService, endpointService } from "./endpoint.ts";

// Linkerd: LINKERD2_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY.
const MAX_QUEUED = 10_000;
// Linkerd connects to every endpoint at once; past this many, further ones are connected as earlier ones go.
const MAX_EAGER = 64;

type BalancerDispatch = Extract<Dispatch, { kind: "balancer" }>;

/**
 * The endpoints of one backend, balanced by power of two choices over peak EWMA. Requests wait here while no endpoint
 * is ready, up to the fail-fast time; after it they are refused at once until one is.
 */
export class Balancer implements Service, ResponseLayer, Timed {
  readonly #deps: OutboundDeps;
  readonly #set: EndpointSet<EndpointService>;
  readonly #handle: EndpointsHandle;
  readonly #unsubscribe: () => void;
  readonly #backend: Backend;
  readonly #version: "1" | "2";
  readonly #load: LoadConfig;
  #queue: Exchange[] = [];
  #waitingSince: Millis = 0;
  #failfast = false;
  #eager = 0;

  constructor(deps: OutboundDeps, backend: Backend, dispatch: BalancerDispatch, version: "1" | "2") {
    this.#deps = deps;
    this.#backend = backend;
    this.#version = version;
    this.#load = dispatch.load;
    this.#set = new EndpointSet<EndpointService>(this, dispatch.load, backend.failureAccrual);
    this.#handle = deps.discovery.endpoints(dispatch.path);
    this.#handle.retain();
    this.#set.reset(this.#handle.current.values(), deps.runtime.clock.now());
    this.#unsubscribe = this.#handle.subscribe(this);
  }

  /** Whether the distribution may choose this backend. */
  get ready(): boolean {
    return (!this.#failfast || this.#set.readyCount > 0) && this.#queue.length < MAX_QUEUED;
  }

  call(x: Exchange): void {
    if (this.#queue.length > 0 || !this.#dispatch(x)) this.#enqueue(x);
  }

  close(): void {
    this.#unsubscribe();
    this.#handle.release();
    this.#deps.runtime.wheel.disarm(this);
    this.#set.reset([], this.#deps.runtime.clock.now());
    this.#refuseQueued();
  }

  // --- discovery and endpoints -------------------------------------------------------------------------------------

  changed(add: readonly Endpoint[], remove: readonly string[]): void {
    this.#set.change(add, remove, this.#deps.runtime.clock.now());
    this.#serve();
  }

  added(slot: Slot<EndpointService>): void {
    const service = endpointService(this.#deps, slot.endpoint, this.#backend, this.#version, () => {
      if (slot.removed) return;
      this.#set.setConnected(slot, service.ready);
      if (service.ready) this.#serve();
      // A connection that was lost comes back without waiting for a request.
      else service.connect();
    });
    slot.attachment = service;
    if (this.#eager < MAX_EAGER) {
      this.#eager++;
      service.connect();
    }
    this.#set.setConnected(slot, service.ready);
  }

  removed(slot: Slot<EndpointService>): void {
    slot.attachment?.close();
    if (this.#eager < MAX_EAGER) return;
    for (const other of this.#set.slots()) {
      if (other.connected) continue;
      other.attachment?.connect();
      return;
    }
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
    if (this.#queue.length === 0 || now < this.#waitingSince + this.#deps.config.failfastMs) return;
    this.#failfast = true;
    this.#refuseQueued();
  }

  #enqueue(x: Exchange): void {
    if (this.#failfast || this.#queue.length >= MAX_QUEUED) return x.fail(new ProxyError("load-shed"));
    if (this.#queue.length === 0) this.#waitingSince = this.#deps.runtime.clock.now();
    this.#queue.push(x);
    this.#deps.runtime.wheel.arm(this);
  }

  #refuseQueued(): void {
    const queued = this.#queue;
    this.#queue = [];
    for (const x of queued) x.fail(new ProxyError("failfast"));
  }

  #serve(): void {
    if (this.#set.readyCount > 0) this.#failfast = false;
    while (this.#queue.length > 0) {
      const x = this.#queue[0] as Exchange;
      if (!x.ended && !this.#dispatch(x)) return;
      this.#queue.shift();
    }
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
    slot.attachment?.dispatch(x);
    return true;
  }

  // --- responses: measured at the first frame of the body, classified at the end ------------------------------------

  onResponse(x: Exchange, head: ResponseHead): void {
    if (x.outcome !== "refused") stripPeerErrors(head);
    x.grpcStatus = statusOf(head.headers);
    if (this.#load.kind === "penalty-peak-ewma") this.#penalize(x, head, this.#load);
  }

  onTrailers(x: Exchange, trailers: HeaderList): void {
    x.grpcStatus ??= statusOf(trailers);
  }

  onBody(x: Exchange): void {
    this.#measure(x);
  }

  onEnd(x: Exchange): void {
    const slot = x.slot as Slot<EndpointService>;
    this.#measure(x);
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

  #measure(x: Exchange, penaltyMs?: number): void {
    if (x.measured) return;
    x.measured = true;
    this.#set.measured(x.slot as Slot<EndpointService>, x.dispatchedAt, this.#deps.runtime.clock.now(), penaltyMs);
  }
}

function statusOf(headers: HeaderList): number | undefined {
  const text = headers.get(H.grpcStatus);
  return text === undefined ? undefined : Number(text);
}
