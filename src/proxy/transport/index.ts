/**
 * Sockets: everything in the data plane that reads or writes them. May import rings 0–2. Each driver runs one wire
 * machine on one socket; `Connection` is what they share.
 *
 * Start at `listener.ts` and `peekable.ts` for arriving connections, `pool.ts` and `connect.ts` for departing ones,
 * `connection.ts` for how a machine is driven, `writer.ts` for how bytes leave.
 */
export * from "./connect.ts";
export * from "./connection-limits.ts";
export * from "./connections.ts";
export * from "./listener.ts";
export * from "./mesh-tls.ts";
export * from "./pool.ts";
export * from "./runtime.ts";
export * from "./tls-identity.ts";
