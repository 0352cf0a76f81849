import { H, type HeaderList, type HeaderName } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import type { Exchange } from "./exchange.ts";
import type { Layer, ResponseLayer, Service } from "./service.ts";

const ORIG_PROTO = H.l5dOrigProto;

/**
 * HTTP/1 in HTTP/2's clothes, outbound half: a request that will travel over a peer's HTTP/2 connection is marked with
 * `l5d-orig-proto`, and its response gets its version back. (linkerd/proxy/http/src/orig_proto.rs)
 */
export function markOrigProto(x: Exchange): void {
  const { request } = x;
  const value = `HTTP/${request.version}${request.form === "absolute" ? "; absolute-form" : ""}`;
  request.headers.set(ORIG_PROTO, value);
  x.origProto = true;
  x.observe(unmark);
}

const unmark: ResponseLayer = {
  onResponse(_x: Exchange, head: ResponseHead): void {
    const value = head.headers.get(ORIG_PROTO);
    if (value === undefined) return;
    head.version = value === "HTTP/1.0" ? "1.0" : "1.1";
    head.headers.remove(ORIG_PROTO.lower);
  },
};

/** Inbound half: gives a marked HTTP/2 request its own version back and marks the response. */
export function origProto(): Layer {
  return { named: "orig-proto", wrap: (inner) => new OrigProto(inner) };
}

class OrigProto implements Service, ResponseLayer {
  readonly #inner: Service;

  constructor(inner: Service) {
    this.#inner = inner;
  }

  call(x: Exchange): void {
    const { request } = x;
    if (request.version === "2") {
      const value = request.headers.get(ORIG_PROTO);
      if (value !== undefined) {
        request.headers.remove(ORIG_PROTO.lower);
        if (value.startsWith("HTTP/1.")) {
          request.version = value.startsWith("HTTP/1.0") ? "1.0" : "1.1";
          if (value.startsWith("absolute-form", 10)) request.form = "absolute";
          x.origProto = true;
          joinCookies(request.headers);
          x.observe(this);
        }
      }
    }
    this.#inner.call(x);
  }

  onResponse(x: Exchange, head: ResponseHead): void {
    // Only what the application said; answers of our own above this layer carry no mark.
    if (x.outcome === "refused" || head.version === "2") return;
    head.headers.remove(H.transferEncoding.lower);
    head.headers.set(ORIG_PROTO, head.version === "1.0" ? "HTTP/1.0" : "HTTP/1.1");
  }
}

/** HTTP/2 may spread one Cookie over several fields; HTTP/1 knows one only (RFC 9113 §8.2.3). */
export function joinCookies(headers: HeaderList): void {
  const { names, values } = headers;
  let first: HeaderName | undefined;
  let joined = "";
  let count = 0;
  for (let i = 0; i < names.length; i++) {
    if (names[i]?.lower !== "cookie") continue;
    first ??= names[i];
    joined = count++ === 0 ? (values[i] as string) : `${joined}; ${values[i]}`;
  }
  if (first !== undefined && count > 1) headers.set(first, joined);
}

/** The names under which a peer's proxy reports its own errors; the application must not see them. */
export function stripPeerErrors(head: ResponseHead): void {
  if (head.headers.has(H.l5dProxyError)) head.headers.remove(H.l5dProxyError.lower);
  if (head.headers.has(H.l5dProxyConnection)) head.headers.remove(H.l5dProxyConnection.lower);
}
