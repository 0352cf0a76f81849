/**
 * Interception: how connections of this host come to the agent without anybody noticing, and how they stop doing so.
 *
 * One nftables table of our own with TPROXY, one routing table, and a lease in the kernel that the agent renews. Start
 * with `model.ts` (what can be chosen) and `ruleset.ts` (the rules themselves); `plan.ts` puts them together and
 * explains them, both pure. `apply.ts` and `verify.ts` carry a plan out through a `Run` that is handed in; `host.ts`
 * reads what the plan must know of the host; `lease.ts` is the agent's side. May import proxy/core.
 */
export { apply, leave, remove, tableExists } from "./apply.ts";
export { InterceptionError, type InterceptionProblem } from "./errors.ts";
export { type LiveConnection, readHostFacts, readLiveConnections } from "./host.ts";
export { type MissingFeature, missingKernelFeature } from "./kernel.ts";
export { LEASE, PROBE } from "./lease.ts";
export {
  DEFAULTS,
  type Exemption,
  type InterceptionFile,
  type InterceptionOptions,
  type OnDeath,
  OptionsError,
  type PortRange,
  parseOptions,
  type Selection,
} from "./model.ts";
export { type Affected, affected, explain, type Plan, plan } from "./plan.ts";
export type { RoutingObject } from "./routing.ts";
export { type HostFacts, TABLE } from "./ruleset.ts";
export { type Outcome, type Run, runProgram } from "./run.ts";
export { type Finding, verify } from "./verify.ts";
