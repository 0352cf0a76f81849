/**
 * What the control plane knows, brought to where it is needed. The hub (main thread) owns every watch, once per host,
 * and stores the last good answers; the client (worker) is a synchronous cache of them. May import rings 0–2 and
 * `src/proto`. Start with `handle.ts` for what the data plane sees, then `hub.ts`, one `*-entry.ts` per kind of watch,
 * and `watch.ts` for the stream that is opened again.
 */
export { type AnswerStore, type AnswerWriter, NO_STORE } from "./cache.ts";
export { DiscoveryClient, type DiscoveryClientOptions, type DiscoveryPort } from "./client.ts";
export type { EntryStatus, Send } from "./entry.ts";
export type {
  EndpointsHandle,
  EndpointsListener,
  Handle,
  InboundPolicyHandle,
  Listener,
  OutboundHandle,
  Waiter,
} from "./handle.ts";
export { Hub, type HubDeps, type HubWorker } from "./hub.ts";
export type { DiscoveryMessage } from "./messages.ts";
export { formatRef } from "./ref.ts";
export { compilePattern } from "./regex.ts";
export { DEFAULT_WATCH_LIMITS, type GrpcClient, type GrpcStream, type Timers, type WatchLimits } from "./watch.ts";
