/**
 * What the control plane knows, brought to where it is needed. The hub (main thread) owns every watch, once per host,
 * and stores the last good answers; the client (worker) is a synchronous cache of them. May import rings 0–2 and
 * `src/proto`. Start with `handle.ts` for what the data plane sees, then `hub.ts`.
 */
export { DiscoveryClient, type DiscoveryClientOptions, type DiscoveryPort } from "./client.ts";
export type {
  EndpointsHandle,
  EndpointsListener,
  Handle,
  InboundPolicyHandle,
  Listener,
  OutboundHandle,
  Waiter,
} from "./handle.ts";
export type { DiscoveryMessage } from "./messages.ts";
export { compilePattern } from "./regex.ts";
