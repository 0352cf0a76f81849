import type { DiscoveryMessageOf } from "../core/messages.ts";
import type { InboundPolicy, OutboundState } from "../policy/index.ts";

/** Main thread → worker, with the types of our policies. */
export type DiscoveryMessage = DiscoveryMessageOf<InboundPolicy, OutboundState>;
