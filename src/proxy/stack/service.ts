import type { ProxyError } from "../core/errors.ts";
import type { HeaderList } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { Exchange } from "./exchange.ts";

/** Answers one request. Synchronous: a layer that must wait keeps the exchange and goes on later. */
export interface Service {
  call(x: Exchange): void;
}

/** What a layer may do with the response of an exchange that it observes ({@link Exchange.observe}). */
export interface ResponseLayer {
  /** The final head, before it is sent; may be changed in place. */
  onResponse?(x: Exchange, head: ResponseHead): void;
  /** The first frame of the response body, its trailers, or its end with the head. */
  onBody?(x: Exchange): void;
  onTrailers?(x: Exchange, trailers: HeaderList): void;
  /** No response has begun. @returns true if the layer took the error over: it answers or tries again. */
  onError?(x: Exchange, error: ProxyError): boolean;
  /** The response has begun and cannot be completed. @returns Trailers to end it with; undefined: cut it. */
  onCut?(x: Exchange, error: ProxyError): HeaderList | undefined;
  /** Exactly once, at the very end, however it ended. */
  onEnd?(x: Exchange): void;
}

/** Wraps a service in another one and knows no neighbour. `named` is how a stack prints itself. */
export interface Layer {
  readonly named: string;
  wrap(inner: Service): Service;
}
