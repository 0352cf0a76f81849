/**
 * Connections that reach the host's workload: from meshed peers through port 4143, and on its own ports by TPROXY. May
 * import rings 0–3. Nobody's bytes reach the application before the port's policy has permitted them.
 *
 * Start at `accept.ts`; `detect.ts` finds mesh TLS and the protocol, `direct.ts` reads the transport header, `http.ts`
 * is the stack, `opaque.ts` copies what is not parsed, `admin.ts` lets scrapers in.
 */
export { InboundAcceptor } from "./accept.ts";
export type { InboundConfig, InboundDeps } from "./deps.ts";
