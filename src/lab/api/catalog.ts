import type { ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import { EXTERNAL_WORKLOAD } from "./external-workload.ts";
import type { Schema } from "./schema.ts";

/** One column that kubectl shows, read from the object by a dotted path. */
export interface PrinterColumn {
  readonly name: string;
  readonly path: string;
  readonly type: "string" | "integer" | "date";
}

/** Everything the API server needs to know about one kind of resource. */
export interface Resource {
  readonly group: string;
  /** Served versions, the preferred and stored one first. */
  readonly versions: readonly [string, ...string[]];
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  /** Has a `/status` subresource: ordinary writes drop the status, status writes drop everything else. */
  readonly status: boolean;
  /** Custom resource: merge patch instead of strategic, atomic lists, no field selectors. */
  readonly custom: boolean;
  readonly columns: readonly PrinterColumn[];
  readonly schema?: Schema;
}

interface Wish {
  readonly singular?: string;
  readonly short?: readonly string[];
  readonly categories?: readonly string[];
  readonly cluster?: boolean;
  readonly status?: boolean;
  readonly columns?: readonly PrinterColumn[];
  readonly schema?: Schema;
}

function resource(
  custom: boolean,
  group: string,
  versions: readonly [string, ...string[]],
  plural: string,
  kind: string,
  wish: Wish = {},
): Resource {
  return {
    group,
    versions,
    plural,
    singular: wish.singular ?? kind.toLowerCase(),
    kind,
    shortNames: wish.short ?? [],
    categories: wish.categories ?? [],
    namespaced: wish.cluster !== true,
    status: wish.status === true,
    custom,
    columns: wish.columns ?? [],
    ...(wish.schema ? { schema: wish.schema } : {}),
  };
}

const builtIn = resource.bind(null, false);
const custom = resource.bind(null, true);

const AGE: PrinterColumn = { name: "Age", path: "metadata.creationTimestamp", type: "date" };
const column = (name: string, path: string, type: PrinterColumn["type"] = "string"): PrinterColumn => ({
  name,
  path,
  type,
});

const POLICY = { categories: ["policy"], columns: [AGE] };
const ROUTE = { status: true, categories: ["gateway-api"], columns: [column("Hostnames", "spec.hostnames"), AGE] };

/**
 * The kinds the lab knows from the start: what the enroller, the agent, Linkerd's services and an operator with
 * kubectl touch, and what `cluster install` writes. CustomResourceDefinitions add to it.
 */
export const CATALOG: readonly Resource[] = [
  builtIn("", ["v1"], "namespaces", "Namespace", { short: ["ns"], cluster: true, status: true }),
  builtIn("", ["v1"], "nodes", "Node", { short: ["no"], cluster: true, status: true }),
  builtIn("", ["v1"], "services", "Service", { short: ["svc"], categories: ["all"], status: true }),
  builtIn("", ["v1"], "pods", "Pod", { short: ["po"], categories: ["all"], status: true }),
  builtIn("", ["v1"], "configmaps", "ConfigMap", { short: ["cm"] }),
  builtIn("", ["v1"], "secrets", "Secret"),
  builtIn("", ["v1"], "serviceaccounts", "ServiceAccount", { short: ["sa"] }),
  builtIn("", ["v1"], "events", "Event", { short: ["ev"] }),
  builtIn("apps", ["v1"], "deployments", "Deployment", { short: ["deploy"], categories: ["all"], status: true }),
  builtIn("", ["v1"], "endpoints", "Endpoints", { short: ["ep"], singular: "endpoints" }),
  builtIn("apps", ["v1"], "daemonsets", "DaemonSet", { short: ["ds"], categories: ["all"], status: true }),
  builtIn("apps", ["v1"], "replicasets", "ReplicaSet", { short: ["rs"], categories: ["all"], status: true }),
  builtIn("apps", ["v1"], "statefulsets", "StatefulSet", { short: ["sts"], categories: ["all"], status: true }),
  builtIn("batch", ["v1"], "cronjobs", "CronJob", { short: ["cj"], categories: ["all"], status: true }),
  builtIn("batch", ["v1"], "jobs", "Job", { categories: ["all"], status: true }),
  builtIn("coordination.k8s.io", ["v1"], "leases", "Lease"),
  builtIn("discovery.k8s.io", ["v1"], "endpointslices", "EndpointSlice"),
  builtIn("networking.k8s.io", ["v1"], "networkpolicies", "NetworkPolicy", { short: ["netpol"] }),
  builtIn("networking.k8s.io", ["v1"], "servicecidrs", "ServiceCIDR", { cluster: true, status: true }),
  builtIn("policy", ["v1"], "poddisruptionbudgets", "PodDisruptionBudget", { short: ["pdb"], status: true }),
  builtIn("rbac.authorization.k8s.io", ["v1"], "roles", "Role"),
  builtIn("rbac.authorization.k8s.io", ["v1"], "rolebindings", "RoleBinding"),
  builtIn("rbac.authorization.k8s.io", ["v1"], "clusterroles", "ClusterRole", { cluster: true }),
  builtIn("rbac.authorization.k8s.io", ["v1"], "clusterrolebindings", "ClusterRoleBinding", { cluster: true }),
  builtIn("admissionregistration.k8s.io", ["v1"], "validatingadmissionpolicies", "ValidatingAdmissionPolicy", {
    cluster: true,
    status: true,
  }),
  builtIn(
    "admissionregistration.k8s.io",
    ["v1"],
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    {
      cluster: true,
    },
  ),
  builtIn("apiextensions.k8s.io", ["v1"], "customresourcedefinitions", "CustomResourceDefinition", {
    short: ["crd", "crds"],
    cluster: true,
    status: true,
  }),
  custom("workload.linkerd.io", ["v1beta1"], "externalworkloads", "ExternalWorkload", {
    categories: ["external"],
    status: true,
    columns: [column("Identity", "spec.meshTLS.identity"), AGE],
    schema: EXTERNAL_WORKLOAD,
  }),
  custom("policy.linkerd.io", ["v1beta3", "v1beta2", "v1beta1", "v1alpha1"], "servers", "Server", {
    short: ["srv"],
    categories: ["policy"],
    columns: [
      column("Port", "spec.port"),
      column("Protocol", "spec.proxyProtocol"),
      column("Access Policy", "spec.accessPolicy"),
    ],
  }),
  custom("policy.linkerd.io", ["v1alpha1"], "authorizationpolicies", "AuthorizationPolicy", {
    ...POLICY,
    short: ["authzpolicy"],
  }),
  custom("policy.linkerd.io", ["v1alpha1"], "meshtlsauthentications", "MeshTLSAuthentication", {
    ...POLICY,
    short: ["meshtlsauthn"],
  }),
  custom("policy.linkerd.io", ["v1alpha1"], "networkauthentications", "NetworkAuthentication", {
    ...POLICY,
    short: ["netauthn", "networkauthn"],
  }),
  custom("policy.linkerd.io", ["v1beta1", "v1alpha1"], "serverauthorizations", "ServerAuthorization", {
    short: ["saz", "serverauthz", "srvauthz"],
    categories: ["policy"],
    columns: [column("Server", "spec.server.name"), AGE],
  }),
  custom("policy.linkerd.io", ["v1beta3", "v1beta2", "v1beta1", "v1alpha1"], "httproutes", "HTTPRoute", ROUTE),
  custom("policy.linkerd.io", ["v1alpha1"], "httplocalratelimitpolicies", "HTTPLocalRateLimitPolicy", {
    status: true,
    columns: [
      column("Target_kind", "spec.targetRef.kind"),
      column("Target_name", "spec.targetRef.name"),
      column("Total_RPS", "spec.total.requestsPerSecond", "integer"),
    ],
  }),
  custom("policy.linkerd.io", ["v1alpha1"], "egressnetworks", "EgressNetwork", {
    ...POLICY,
    status: true,
    columns: [column("Traffic Policy", "spec.trafficPolicy"), AGE],
  }),
  custom("gateway.networking.k8s.io", ["v1", "v1beta1"], "httproutes", "HTTPRoute", ROUTE),
  custom("gateway.networking.k8s.io", ["v1", "v1alpha2"], "grpcroutes", "GRPCRoute", ROUTE),
  custom("gateway.networking.k8s.io", ["v1", "v1alpha2"], "tlsroutes", "TLSRoute", { ...ROUTE, columns: [AGE] }),
  custom("gateway.networking.k8s.io", ["v1alpha2"], "tcproutes", "TCPRoute", { ...ROUTE, columns: [AGE] }),
  custom("linkerd.io", ["v1alpha2", "v1alpha1"], "serviceprofiles", "ServiceProfile", {
    short: ["sp"],
    columns: [AGE],
  }),
];

/** The types most often asked for. */
export const TYPES = {
  namespaces: { group: "", version: "v1", plural: "namespaces" },
  services: { group: "", version: "v1", plural: "services" },
  pods: { group: "", version: "v1", plural: "pods" },
  configMaps: { group: "", version: "v1", plural: "configmaps" },
  secrets: { group: "", version: "v1", plural: "secrets" },
  serviceAccounts: { group: "", version: "v1", plural: "serviceaccounts" },
  events: { group: "", version: "v1", plural: "events" },
  nodes: { group: "", version: "v1", plural: "nodes" },
  endpointSlices: { group: "discovery.k8s.io", version: "v1", plural: "endpointslices" },
  leases: { group: "coordination.k8s.io", version: "v1", plural: "leases" },
  externalWorkloads: { group: "workload.linkerd.io", version: "v1beta1", plural: "externalworkloads" },
  serviceCidrs: { group: "networking.k8s.io", version: "v1", plural: "servicecidrs" },
  definitions: { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions" },
} as const satisfies Record<string, ResourceType>;
