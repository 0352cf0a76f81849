import { firstAvailable, randomAvailable } from "../balance/index.ts";
import { ProxyError } from "../core/errors.ts";
import type { ResponseHead } from "../core/http.ts";
import {
  type Backend,
  type Dispatch,
  type Distribution,
  type Filter,
  filterRequest,
  filterResponse,
  type OutboundHttp,
  type RouteBackend,
} from "../policy/index.ts";
import { type Exchange, type ResponseLayer, type Service, stopped } from "../stack/index.ts";
import { Balancer } from "./balance.ts";
import type { OutboundDeps } from "./deps.ts";
import { Forward } from "./forward.ts";
import type { Suspect } from "./suspicion.ts";

/** Where requests of a route may go. */
export interface BackendService extends Service {
  /** Whether a request would find its way, or at least a place in the queue. */
  readonly ready: boolean;
  /** Discovery says that there is nobody: not chosen while another backend is there to take its share. */
  readonly empty: boolean;
  close(): void;
}

/** The running backends of one stack, by key: kept across policy updates that still name them. */
export class Backends {
  readonly #deps: OutboundDeps;
  readonly #policy: Suspect;
  readonly #version: "1" | "2";
  readonly #running = new Map<string, BackendService>();
  readonly #isReady = (choice: RouteBackend<Filter>) => this.get(choice.backend).ready;
  readonly #isInhabited = (choice: RouteBackend<Filter>) => {
    const service = this.get(choice.backend);
    return service.ready && !service.empty;
  };

  /** @param policy - What names the backends. */
  constructor(deps: OutboundDeps, policy: Suspect, version: "1" | "2") {
    this.#deps = deps;
    this.#policy = policy;
    this.#version = version;
  }

  get(backend: Backend): BackendService {
    let service = this.#running.get(backend.key);
    if (service === undefined) {
      service = newBackend(this.#deps, this.#policy, backend, this.#version);
      this.#running.set(backend.key, service);
    }
    return service;
  }

  /** Starts what the routes name, closes what they do not. */
  keep(routes: OutboundHttp | undefined): void {
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

  /** Whether an exchange of this route would find a backend now. */
  isReady(x: Exchange): boolean {
    const distribution = x.choice?.rule.distribution;
    return distribution !== undefined && distribution.kind !== "empty" && distribution.backends.some(this.#isReady);
  }

  /**
   * Chooses by weight among those that are ready. Linkerd also draws a backend of which discovery has said that it has
   * no endpoints, until its first request has waited in vain; a split must not cost requests.
   */
  pick(distribution: Distribution): RouteBackend<Filter> | undefined {
    switch (distribution.kind) {
      case "empty":
        return undefined;
      case "first-available":
        return (
          firstAvailable(distribution.backends, this.#isInhabited) ??
          firstAvailable(distribution.backends, this.#isReady)
        );
      case "random-available":
        return (
          randomAvailable(distribution.backends, this.#isInhabited, this.#deps.rng) ??
          randomAvailable(distribution.backends, this.#isReady, this.#deps.rng)
        );
      default:
        return distribution satisfies never;
    }
  }
}

function newBackend(deps: OutboundDeps, policy: Suspect, backend: Backend, version: "1" | "2"): BackendService {
  const { dispatch } = backend;
  switch (dispatch.kind) {
    case "balancer":
      return new Balancer(deps, policy, backend, dispatch, version);
    case "forward":
      return new Forward(deps, policy, backend, dispatch.endpoint, version);
    case "fail":
      return new Failing(dispatch);
    default:
      return dispatch satisfies never;
  }
}

/** A backend that leads nowhere. */
class Failing implements BackendService {
  readonly ready = true;
  readonly empty = false;
  readonly #dispatch: Extract<Dispatch, { kind: "fail" }>;

  constructor(dispatch: Extract<Dispatch, { kind: "fail" }>) {
    this.#dispatch = dispatch;
  }

  call(x: Exchange): void {
    x.fail(new ProxyError("connect-failed", this.#dispatch.message));
  }

  close(): void {}
}

/** Chooses a backend for every request, and runs its filters. */
export function distributed(backends: Backends, deps: OutboundDeps): Service & { readonly named: string } {
  return {
    named: "distributed",
    call(x) {
      const { choice } = x;
      const chosen = choice === undefined ? undefined : backends.pick(choice.rule.distribution);
      if (chosen === undefined) return x.fail(new ProxyError("load-shed"));
      x.backend = chosen.backend;
      deps.recorder.sent(x);
      if (chosen.filters.length > 0) {
        const stop = filterRequest(chosen.filters, x.request, choice?.match, deps.rng);
        if (stop !== undefined) return x.fail(stopped(stop));
        x.observe(new BackendFilters(chosen.filters));
      }
      backends.get(chosen.backend).call(x);
    },
  };
}

/** Only where a backend has filters of its own, which is rare. */
class BackendFilters implements ResponseLayer {
  readonly #filters: readonly Filter[];

  constructor(filters: readonly Filter[]) {
    this.#filters = filters;
  }

  onResponse(x: Exchange, head: ResponseHead): void {
    if (x.outcome !== "refused") filterResponse(this.#filters, head.headers);
  }
}
