/**
 * The SPIFFE Workload API for other programs of this host: a database or a script gets the host's own identity, and
 * every renewal of it, over a unix socket. May import core, proto and `posix.ts`. Start at `server.ts`; `sockets.ts` is
 * who may connect where.
 */
export { WorkloadApiServer, type WorkloadApiServerOptions } from "./server.ts";
export { openSockets, type SpiffeSockets, type SpiffeSocketsOptions } from "./sockets.ts";
