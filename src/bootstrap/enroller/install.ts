import { stringify } from "yaml";
import { ENROLLER_SERVICE_ACCOUNT } from "../control/index.ts";
import { ENROLLER_PORT, ENROLLER_SERVICE } from "./invite.ts";

export interface InstallOptions {
  /** Namespace of Linkerd's control plane, where the enroller runs too. */
  readonly namespace: string;
  readonly image: string;
  readonly capture: readonly string[];
  readonly replicas: number;
  readonly serviceType: "LoadBalancer" | "NodePort" | "ClusterIP";
  readonly issuerSecret: string;
  readonly lifetime: string;
  readonly metricsPort: boolean;
}

const NAME = "mesh-agent-enroller";
const LABELS = { "app.kubernetes.io/name": NAME };

/**
 * What has to be in the cluster: account, rights, Deployment, Service and disruption budget, and for metrics a Server
 * with its policy and the scrape job as a ConfigMap to copy from. YAML documents.
 */
export function installManifests(options: InstallOptions): string {
  const { namespace } = options;
  const documents = [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: ENROLLER_SERVICE_ACCOUNT, namespace, labels: LABELS },
    },
    ...rights(namespace),
    deployment(options),
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: ENROLLER_SERVICE, namespace, labels: LABELS },
      spec: {
        type: options.serviceType,
        // Invitations may be bound to networks, and attempts are counted by source: keep the client's address.
        ...(options.serviceType !== "ClusterIP" && { externalTrafficPolicy: "Local" }),
        selector: LABELS,
        ports: [{ name: "enroll", port: ENROLLER_PORT, targetPort: ENROLLER_PORT, protocol: "TCP" }],
      },
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: { name: NAME, namespace, labels: LABELS },
      spec: { maxUnavailable: 1, selector: { matchLabels: LABELS } },
    },
    inviters(namespace),
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: NAME, namespace, labels: LABELS },
      // Hosts call from anywhere, and by one port only.
      spec: {
        podSelector: { matchLabels: LABELS },
        policyTypes: ["Ingress"],
        ingress: [{ ports: [{ port: ENROLLER_PORT, protocol: "TCP" }] }],
      },
    },
    ...(options.metricsPort ? [scrapeJob(namespace)] : []),
  ];
  return documents.map((document) => `---\n${stringify(document, { lineWidth: 0 })}`).join("");
}

/** Cluster-wide only what concerns workloads and names; Secrets and leases in one namespace. */
function rights(namespace: string): readonly object[] {
  const subjects = [{ kind: "ServiceAccount", name: ENROLLER_SERVICE_ACCOUNT, namespace }];
  const metadata = { name: NAME, labels: LABELS };
  const roleGroup = "rbac.authorization.k8s.io";
  const rule = (apiGroup: string, resources: readonly string[], verbs: readonly string[]) => ({
    apiGroups: [apiGroup],
    resources,
    verbs,
  });
  const look = ["get", "list", "watch"];
  return [
    {
      apiVersion: `${roleGroup}/v1`,
      kind: "ClusterRole",
      metadata,
      rules: [
        rule("workload.linkerd.io", ["externalworkloads"], [...look, "create", "patch", "delete"]),
        rule("workload.linkerd.io", ["externalworkloads/status"], ["patch"]),
        rule("", ["services"], ["get"]),
        rule("", ["events"], ["create"]),
        rule("discovery.k8s.io", ["endpointslices"], look),
        rule("networking.k8s.io", ["servicecidrs"], ["list"]),
      ],
    },
    {
      apiVersion: `${roleGroup}/v1`,
      kind: "ClusterRoleBinding",
      metadata,
      roleRef: { apiGroup: roleGroup, kind: "ClusterRole", name: NAME },
      subjects,
    },
    {
      apiVersion: `${roleGroup}/v1`,
      kind: "Role",
      metadata: { ...metadata, namespace },
      rules: [
        // The issuer's Secret and the invitations.
        rule("", ["secrets"], [...look, "update", "delete"]),
        rule("", ["configmaps"], look),
        rule("coordination.k8s.io", ["leases"], [...look, "create", "patch", "delete"]),
      ],
    },
    {
      apiVersion: `${roleGroup}/v1`,
      kind: "RoleBinding",
      metadata: { ...metadata, namespace },
      roleRef: { apiGroup: roleGroup, kind: "Role", name: NAME },
      subjects,
    },
  ];
}

/** For those who may invite; bind it in the control plane's namespace with a RoleBinding. */
function inviters(namespace: string): object {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    metadata: { name: "mesh-agent-inviter", namespace, labels: LABELS },
    rules: [
      // A POST has no name that could be restricted: whoever invites could create any Secret here.
      { apiGroups: [""], resources: ["secrets"], verbs: ["create"] },
      {
        apiGroups: [""],
        resources: ["configmaps"],
        resourceNames: ["linkerd-identity-trust-roots", "linkerd-config"],
        verbs: ["get"],
      },
      { apiGroups: [""], resources: ["services"], resourceNames: [ENROLLER_SERVICE], verbs: ["get"] },
    ],
  };
}

function deployment(options: InstallOptions): object {
  const { namespace, image, capture, replicas, issuerSecret, lifetime, metricsPort } = options;
  const args = [
    "enroller",
    "--in-cluster",
    `--linkerd-namespace=${namespace}`,
    `--issuer-secret=${issuerSecret}`,
    `--lifetime=${lifetime}`,
    ...(capture.length === 0 ? [] : ["--capture", ...capture]),
    ...(metricsPort ? [] : ["--no-metrics-port"]),
  ];
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: NAME, namespace, labels: LABELS },
    spec: {
      replicas,
      selector: { matchLabels: LABELS },
      template: {
        metadata: {
          labels: LABELS,
          // It speaks mesh TLS by itself; a sidecar in between would hide who calls.
          annotations: { "linkerd.io/inject": "disabled" },
        },
        spec: {
          serviceAccountName: ENROLLER_SERVICE_ACCOUNT,
          securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: "RuntimeDefault" } },
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: "kubernetes.io/hostname",
              whenUnsatisfiable: "ScheduleAnyway",
              labelSelector: { matchLabels: LABELS },
            },
          ],
          containers: [
            {
              name: "enroller",
              image,
              args,
              ports: [{ name: "enroll", containerPort: ENROLLER_PORT }],
              readinessProbe: { tcpSocket: { port: ENROLLER_PORT }, periodSeconds: 5 },
              livenessProbe: { tcpSocket: { port: ENROLLER_PORT }, periodSeconds: 10, failureThreshold: 6 },
              resources: { requests: { cpu: "50m", memory: "160Mi" }, limits: { memory: "512Mi" } },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  };
}

/** A Prometheus job for the hosts' proxies, which are reached through the mesh on port 4191. */
function scrapeJob(namespace: string): object {
  const job = {
    job_name: "mesh-agent",
    kubernetes_sd_configs: [{ role: "endpointslice" }],
    relabel_configs: [
      {
        source_labels: ["__meta_kubernetes_endpointslice_endpoint_conditions_ready"],
        action: "keep",
        regex: "true",
      },
      {
        source_labels: ["__meta_kubernetes_endpointslice_address_target_kind"],
        action: "keep",
        regex: "ExternalWorkload",
      },
      {
        source_labels: ["__meta_kubernetes_endpointslice_address_target_name"],
        target_label: "external_workload",
      },
      { source_labels: ["__meta_kubernetes_namespace"], target_label: "namespace" },
      { source_labels: ["__address__"], regex: "(.+):\\d+", replacement: "$1:4191", target_label: "__address__" },
    ],
  };
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "mesh-agent-scrape-job", namespace, labels: LABELS },
    data: {
      "scrape.yaml": stringify([job], { lineWidth: 0 }),
      "policy.yaml": [
        "# One pair per namespace with hosts: meshed scrapers may read the proxies' metrics, and nobody else.",
        stringify({
          apiVersion: "policy.linkerd.io/v1beta3",
          kind: "Server",
          metadata: { name: "mesh-agent-metrics", namespace: "NAMESPACE" },
          spec: {
            externalWorkloadSelector: { matchLabels: { "mesh-agent/managed": "true" } },
            port: "linkerd-admin",
            proxyProtocol: "HTTP/1",
          },
        }).trimEnd(),
        "---",
        stringify({
          apiVersion: "policy.linkerd.io/v1alpha1",
          kind: "AuthorizationPolicy",
          metadata: { name: "mesh-agent-metrics", namespace: "NAMESPACE" },
          spec: {
            targetRef: { group: "policy.linkerd.io", kind: "Server", name: "mesh-agent-metrics" },
            requiredAuthenticationRefs: [{ kind: "ServiceAccount", name: "prometheus", namespace: "linkerd-viz" }],
          },
        }),
      ].join("\n"),
    },
  };
}
