/**
 * The cluster side of the bootstrap: invitations, the issuer, registration of hosts as ExternalWorkloads, their
 * liveness, and the way through to the control plane. It holds the only Kubernetes rights. May import rings 0–2,
 * `proxy/transport`, `proto` and `bootstrap/control`; Kubernetes stands behind {@link KubeClient}. Start at `start.ts`, then
 * `service.ts` (the calls) and `attach.ts` (the hosts). `plan.ts` is what an ExternalWorkload should be, pure.
 */

export { admissionPolicies } from "./admission-policy.ts";
export { decide, groupOfHost, type WaitingHost, waitingHosts } from "./approval.ts";
export { CHECKS, type CheckCode, type CheckResult, checkInstallation } from "./check.ts";
export {
  checkGroup,
  type ExternalWorkloadGroup,
  GROUPS,
  type GroupAdmission,
  type GroupHost,
  groupFor,
  groupTerms,
  type HostDecision,
} from "./group.ts";
export { groupDefinition } from "./group-definition.ts";
export { type InstallOptions, installManifests, installObjects } from "./install.ts";
export {
  type Approval,
  type Attempt,
  KEEP_DEAD_MS,
  type NewInvitation,
  newInvitation,
  type Redeemed,
  redeem,
  sweepInvitations,
} from "./invitation.ts";
export { type InvitationSummary, listInvitations, revokeInvitation } from "./invitations.ts";
export { createInvitation, ENROLLER_PORT, ENROLLER_SERVICE, type Invited, type InviteOptions } from "./invite.ts";
export { type IssuedCertificate, Issuer, LIFETIME_LIMITS, type ProvenKey, verifyRequest } from "./issuer.ts";
export {
  type KubeClient,
  KubeError,
  type KubeObject,
  type ResourceType,
  type WatchEvent,
} from "./kubernetes.ts";
export { type MeshValues, readMeshValues } from "./mesh-values.ts";
export { type Claim, judgeClaim, takePlace } from "./place.ts";
export {
  planWorkload,
  REVOKED,
  type Registration,
  readRegistration,
  workloadNameOf,
} from "./plan.ts";
export * from "./resources.ts";
export { revokeHost } from "./revoke.ts";
export { type EnrollerOptions, type RunningEnroller, startEnroller } from "./start.ts";
export { checkTerms, DEFAULT_OPAQUE_PORTS, type InvitationTerms, opaquePortsOf } from "./terms.ts";
export { parseDuration, parseLabel, parseProbe, parseWorkloadPort } from "./terms-text.ts";
export { collectionOf, registeredHosts, uninstall } from "./uninstall.ts";
