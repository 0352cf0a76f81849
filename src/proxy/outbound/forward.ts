import type { Endpoint } from "../core/endpoint.ts";
import { H, type HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { Backend } from "../policy/index.ts";
import { type Exchange, grpcStatusOf, type ResponseLayer, type Service, stripPeerErrors } from "../stack/index.ts";
import type { OutboundDeps } from "./deps.ts";
import { type EndpointService, endpointService } from "./endpoint.ts";
import { isUnreached, type Suspect, Suspicion } from "./suspicion.ts";

/** A backend of exactly one endpoint, which is whom the program dialled: no balancing, no breaker. */
export class Forward implements Service, ResponseLayer {
  readonly ready = true;
  readonly empty = false;
  readonly #deps: OutboundDeps;
  readonly #endpoint: Endpoint;
  readonly #service: EndpointService;
  readonly #suspicion: Suspicion;

  /** @param policy - What names the endpoint. */
  constructor(deps: OutboundDeps, policy: Suspect, backend: Backend, endpoint: Endpoint, version: "1" | "2") {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#suspicion = new Suspicion(policy);
    this.#service = endpointService(deps, endpoint, backend, version, () => {
      if (!this.#service.ready) this.#service.connect();
    });
  }

  call(x: Exchange): void {
    x.endpoint = this.#endpoint;
    x.dispatchedAt = this.#deps.runtime.clock.now();
    x.observe(this);
    // One that waits for a connection in vain never came as far as the endpoint.
    if (this.#service.ready) this.#deps.recorder.dispatched(x);
    this.#service.dispatch(x);
  }

  close(): void {
    this.#service.close();
  }

  onResponse(x: Exchange, head: ResponseHead): void {
    if (x.outcome === "refused") return;
    this.#deps.recorder.dispatched(x);
    // The peer's proxy lost the program behind this very connection: ours is to notice (outbound.md §7.8).
    if (this.#endpoint.identity !== undefined && head.headers.get(H.l5dProxyConnection) === "close")
      x.server.closeAfter(x);
    stripPeerErrors(head);
    x.grpcStatus = grpcStatusOf(head.headers);
  }

  onBody(x: Exchange): void {
    this.#deps.recorder.began(x);
  }

  onTrailers(x: Exchange, trailers: HeaderList): void {
    x.grpcStatus ??= grpcStatusOf(trailers);
  }

  onEnd(x: Exchange): void {
    if (x.failure !== undefined && isUnreached(x.failure))
      this.#suspicion.failed(this.#endpoint.key, this.#deps.runtime.clock.now());
    else if (x.response !== undefined) this.#suspicion.worked(this.#endpoint.key);
  }
}
