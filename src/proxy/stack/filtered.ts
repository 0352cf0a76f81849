import { ProxyError } from "../core/errors.ts";
import type { FilterStop } from "../policy/index.ts";

/** The error that ends a request which a filter of its route stopped. */
export function stopped(stop: FilterStop): ProxyError {
  switch (stop.kind) {
    case "redirect":
      return new ProxyError("redirected", undefined, { http: stop.status, headers: [["location", stop.location]] });
    case "http-failure":
      return new ProxyError("injected", stop.message, { http: stop.status });
    case "grpc-failure":
      // Codes that gRPC does not know become Unknown (outbound.md §3.5).
      return new ProxyError("injected", stop.message, { http: 200, grpc: stop.code <= 16 ? stop.code : 2 });
    case "internal-error":
      return new ProxyError("unexpected", stop.message);
    default:
      return stop satisfies never;
  }
}
