/**
 * What others may ask the running agent: `server.ts` is the admin port (metrics, liveness, readiness) on loopback,
 * `control.ts` the command line's unix socket. May import core; what they show is handed in.
 */
export { type ControlSource, createControlServer } from "./control.ts";
export { type AdminSource, createAdminServer } from "./server.ts";
