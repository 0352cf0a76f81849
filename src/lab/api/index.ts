/**
 * A Kubernetes-shaped API in one process: a store with an API server's rules (`store.ts`), an HTTP face for kubectl
 * and every other client (`server.ts`), and an in-process client (`client.ts`). It serves the kinds of `catalog.ts`
 * and those that CustomResourceDefinitions add, obeys roles (`rbac.ts`) and ValidatingAdmissionPolicies
 * (`policy-admission.ts`); it has no webhooks and no scheduler. Imports: node:http,
 * `yaml`, and the contract in `bootstrap/enroller/kubernetes.ts`. Start reading in `store.ts`.
 */
export { CATALOG, type Resource, TYPES } from "./catalog.ts";
export { type KeyPair, selfSigned } from "./certificate.ts";
export { LabKubeClient } from "./client.ts";
export { shortDuration } from "./duration.ts";
export { kubeconfig, type Reach } from "./kubeconfig.ts";
export { type Access, ADMINISTRATOR, authorize, type User } from "./rbac.ts";
export { type ApiOptions, type LabApi, startApi } from "./server.ts";
export { LabError } from "./status.ts";
export { LabStore, type StoreEvent, type StoreOptions, type WriteOptions } from "./store.ts";
export { API_AUDIENCE, LabTokens, type Review } from "./tokens.ts";
