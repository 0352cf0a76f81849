/**
 * The host's presence in the mesh: who the machine is, where it is reachable, whether its application answers, and the
 * stream over which the enroller hears of it. May import rings 0–2, `proto` and `bootstrap/control`. Start at
 * `attach-client.ts`; `leave.ts` is the way out.
 */
export { routeSource } from "./address.ts";
export { AddressWatch, type AddressWatchOptions } from "./address-watch.ts";
export {
  AttachClient,
  type AttachClientOptions,
  type AttachHandlers,
  type AttachState,
  type HostReadiness,
  type RegistrationState,
} from "./attach-client.ts";
export { check } from "./check.ts";
export { type LeaveOptions, type Leaver, type Left, leave } from "./leave.ts";
export { readMachineId } from "./machine-id.ts";
export { NameResolver, type NameResolverOptions, type ResolvedName } from "./name-resolver.ts";
export { Probes, type ProbesOptions, type ProbeVerdict } from "./probe.ts";
