/**
 * What the control plane decided, as plain data, and the pure functions that apply it to a request or a connection:
 * match, authorize, decide, filter, retry, limit. Imports `core` only. Start with `model.ts`, then `decide.ts`.
 */
export * from "./authorize.ts";
export * from "./builtin.ts";
export * from "./classify.ts";
export * from "./decide.ts";
export * from "./filter.ts";
export { findTlsRoute, matchClasses } from "./match/index.ts";
export type * from "./model.ts";
export * from "./overrides.ts";
export { eachInboundPattern, eachOutboundPattern } from "./patterns.ts";
export * from "./rate-buckets.ts";
export * from "./rate-limit.ts";
export * from "./retry.ts";
