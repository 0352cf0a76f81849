/**
 * What the control plane decided, as plain data, and the pure functions that apply it to a request or a connection:
 * match, authorize, decide, filter, retry, limit. Imports `core` only. Start with `model.ts`, then `decide.ts`.
 */
export type * from "./model.ts";
export { eachInboundPattern, eachOutboundPattern } from "./patterns.ts";
