/**
 * Does a request fit, and how well? One matcher a file, each with its precedence, which is Linkerd's: lengths count,
 * kinds do not. Imports the model and `core`. Start with `route.ts`.
 */
export { rankHosts } from "./host.ts";
export { matchPath } from "./path.ts";
export { matchClasses, matchProfile } from "./profile.ts";
export { RequestView } from "./request.ts";
export { type Matchable, RouteFinder } from "./route.ts";
export { findTlsRoute } from "./sni.ts";
export { matchHeaders, matchQuery } from "./value.ts";
