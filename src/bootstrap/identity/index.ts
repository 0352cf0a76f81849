/**
 * The host's side of identity: its key, the request for a certificate, joining, renewing, and the sources from which
 * the rest of the agent takes the present identity. May import rings 0–2, `proto` and `bootstrap/control`. Start at
 * `enrol.ts` (the first time), then `source.ts` (every day after); `answer.ts` is what an answer must satisfy.
 */
export { acceptAnchors, acceptAnswer, type Expected } from "./answer.ts";
export { certificationRequest } from "./csr.ts";
export { type Enrolment, type EnrolOptions, enrol } from "./enrol.ts";
export { FileIdentity, type FileIdentityOptions } from "./files.ts";
export { findPinnedRoot } from "./first-contact.ts";
export { exportKey, generateKey, importKey, publicKeyDer } from "./key.ts";
export { type RenewOptions, renew } from "./renew.ts";
export { type RenewalState, renewalDelayMs } from "./renewal.ts";
export { EnrolledIdentity, type EnrolledIdentityOptions, type RenewalStatus } from "./source.ts";
export { loadMembership, type Store, type StoredMembership, saveMembership } from "./stored.ts";
export { WorkloadApiIdentity, type WorkloadApiOptions } from "./workload-api.ts";
