import { stringify } from "yaml";
import { ENROLLER_SERVICE_ACCOUNT } from "../control/index.ts";
import { admissionPolicies } from "./admission-policy.ts";
import { groupDefinition } from "./group-definition.ts";
import { ENROLLER_PORT, ENROLLER_SERVICE, EXTERNAL_ADDRESS, PROXY_PROTOCOL } from "./invite.ts";
import type { KubeObject } from "./kubernetes.ts";
import { rights } from "./rights.ts";

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
  /** `host:port` that hosts dial; absent: what the Service's balancer says. */
  readonly externalAddress?: readonly string[];
  /** Balancers whose PROXY protocol headers are believed, as CIDRs; empty: whoever connects. Absent: none. */
  readonly proxyProtocol?: readonly string[];
}

/** Of `enroller --admin`; where Linkerd's control plane has its own. */
const ADMIN_PORT = 9990;
const NAME = "mesh-agent-enroller";
const LABELS = { "app.kubernetes.io/name": NAME };

/** The objects of {@link installManifests}, in the order in which they are to be created. */
export function installObjects(options: InstallOptions): readonly KubeObject[] {
  const { namespace, externalAddress, proxyProtocol } = options;
  const annotations = {
    ...(externalAddress !== undefined && { [EXTERNAL_ADDRESS]: externalAddress.join(",") }),
    ...(proxyProtocol !== undefined && { [PROXY_PROTOCOL]: "true" }),
  };
  const objects: readonly object[] = [
    groupDefinition(LABELS),
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: ENROLLER_SERVICE_ACCOUNT, namespace, labels: LABELS },
    },
    ...rights(namespace, LABELS),
    ...admissionPolicies(namespace, LABELS),
    deployment(options),
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name: ENROLLER_SERVICE,
        namespace,
        labels: LABELS,
        ...(Object.keys(annotations).length > 0 && { annotations }),
      },
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
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: NAME, namespace, labels: LABELS },
      // Hosts call from anywhere, and by one port only; the other one is read by Prometheus and the kubelet.
      spec: {
        podSelector: { matchLabels: LABELS },
        policyTypes: ["Ingress"],
        ingress: [{ ports: [ENROLLER_PORT, ADMIN_PORT].map((port) => ({ port, protocol: "TCP" })) }],
      },
    },
    ...(options.metricsPort ? [scrapeJob(namespace)] : []),
  ];
  // Manifests: every one has the three fields, the rest is its kind's.
  return objects as readonly KubeObject[];
}

/**
 * What has to be in the cluster: the group's definition, account, rights, admission, Deployment, Service and disruption
 * budget, and for metrics a Server with its policy and the scrape job as a ConfigMap to copy from.
 * @returns YAML documents, or a List in JSON.
 */
export function installManifests(options: InstallOptions, format: "yaml" | "json" = "yaml"): string {
  const objects = installObjects(options);
  if (format === "json") return `${JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }, undefined, 2)}\n`;
  return objects.map((object) => `---\n${stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })}`).join("");
}

function deployment(options: InstallOptions): object {
  const { namespace, image, capture, replicas, issuerSecret, lifetime, metricsPort, proxyProtocol } = options;
  const args = [
    "enroller",
    "--in-cluster",
    `--linkerd-namespace=${namespace}`,
    `--issuer-secret=${issuerSecret}`,
    `--lifetime=${lifetime}`,
    ...(capture.length === 0 ? [] : ["--capture", ...capture]),
    ...(metricsPort ? [] : ["--no-metrics-port"]),
    ...(proxyProtocol === undefined ? [] : ["--proxy-protocol", ...proxyProtocol]),
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
              // Linkerd's own Prometheus reads every port of this name in its namespace.
              ports: [
                { name: "enroll", containerPort: ENROLLER_PORT },
                { name: "admin", containerPort: ADMIN_PORT },
              ],
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
