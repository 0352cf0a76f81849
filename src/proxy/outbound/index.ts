/**
 * Connections that the host's programs open into the mesh. May import rings 0–3.
 *
 * Start at `accept.ts`; `destination.ts` keeps what is built for an original destination, `detect.ts` chooses the
 * protocol, `http.ts` is the stack (`route.ts`, `retry.ts`, `deadline.ts`), `distribute.ts`,
 * `balance.ts`, `forward.ts` and `endpoint.ts` stand behind it, `opaque.ts` copies what is not
 * parsed.
 */
export { OutboundAcceptor } from "./accept.ts";
export type { OutboundConfig, OutboundDeps } from "./deps.ts";
export { type EndpointService, endpointService } from "./endpoint.ts";
