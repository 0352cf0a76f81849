/**
 * What both sides of the bootstrap share: names, the join string, versions, failures, certificates as far as
 * `node:crypto` reads them, time, and the two ends of a gRPC connection over mesh TLS. May import rings 0–2, `proto`
 * and `proxy/transport`; every other folder of `bootstrap` may import it. Start at `channel.ts` (client) and
 * `server.ts`; `failure.ts` is how a refusal crosses the wire.
 */
export * from "./backoff.ts";
export * from "./certificate.ts";
export * from "./channel.ts";
export * from "./enroller-client.ts";
export * from "./errors.ts";
export * from "./failure.ts";
export * from "./join-string.ts";
export * from "./log.ts";
export * from "./mesh-configuration.ts";
export * from "./names.ts";
export * from "./printable.ts";
export * from "./scheduler.ts";
export * from "./server.ts";
export * from "./source-key.ts";
export * from "./version.ts";
export * from "./wire.ts";
