/**
 * The controllers that keep EndpointSlices: Kubernetes' for pods, Linkerd's for ExternalWorkloads. What endpoints a
 * Service should have is decided in `pod-endpoints.ts` and `external-endpoints.ts`, what to do about it in `slices.ts`,
 * all three pure; `run.ts` listens to the store and carries it out. Imports: `lab/api`. Start reading in
 * `external-endpoints.ts`.
 */
export { EXTERNAL_OWNER, externalEndpoints } from "./external-endpoints.ts";
export { POD_OWNER, podEndpoints } from "./pod-endpoints.ts";
export { type ProblemListener, startEndpointControllers } from "./run.ts";
export { type EndpointGroup, planSlices, type SliceOwner, type SlicePlan } from "./slices.ts";
