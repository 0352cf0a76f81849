/**
 * Which endpoint takes a request: a set that follows discovery, power of two choices over peak EWMA, breakers that eject
 * failing endpoints, and the weighted choice between backends. Imports `core` only; time and chance are arguments.
 * Start with `endpoint-set.ts`.
 */
export { Breaker, type EjectionBackoff, type EjectionConfig, type EjectionOutcome } from "./ejection.ts";
export { EndpointSet, type LoadEstimate, Slot, type SlotOwner } from "./endpoint-set.ts";
export { type Load, PeakEwma, PenaltyPeakEwma } from "./ewma.ts";
export { pickOfTwo } from "./p2c.ts";
export { parseHttpDate, parseRetryAfter, penaltyOf } from "./penalty.ts";
export { firstAvailable, randomAvailable } from "./weighted.ts";
