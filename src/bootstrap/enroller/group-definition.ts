import { GROUP_KIND, GROUPS } from "./group.ts";

// Structural schema, OpenAPI v3 as apiextensions.k8s.io/v1 wants it.
const port = { type: "integer", format: "int32", minimum: 1, maximum: 65535 };
const text = (maxLength: number, pattern?: string) => ({
  type: "string",
  minLength: 1,
  maxLength,
  ...(pattern !== undefined && { pattern }),
});
const seconds = (minimum: number) => ({ type: "integer", format: "int32", minimum, maximum: 86_400 });
const strings = { type: "object", additionalProperties: { type: "string", maxLength: 4096 }, maxProperties: 64 };
const dateTime = { type: "string", format: "date-time" };
const SUBDOMAIN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

const PROBE = {
  type: "object",
  properties: {
    httpGet: { type: "object", required: ["port"], properties: { port, path: text(1024, "^/[!-~]*$") } },
    tcpSocket: { type: "object", required: ["port"], properties: { port } },
    grpc: { type: "object", required: ["port"], properties: { port, service: { type: "string", maxLength: 100 } } },
    exec: {
      type: "object",
      required: ["command"],
      properties: { command: { type: "array", minItems: 1, maxItems: 32, items: text(4096) } },
    },
    periodSeconds: seconds(1),
    timeoutSeconds: seconds(1),
    successThreshold: { type: "integer", format: "int32", minimum: 1, maximum: 100 },
    failureThreshold: { type: "integer", format: "int32", minimum: 1, maximum: 100 },
    initialDelaySeconds: seconds(0),
  },
  "x-kubernetes-validations": [
    {
      rule: "[has(self.httpGet), has(self.tcpSocket), has(self.grpc), has(self.exec)].filter(given, given).size() == 1",
      message: "exactly one of httpGet, tcpSocket, grpc and exec",
    },
  ],
};

const TEMPLATE = {
  type: "object",
  required: ["serviceAccountName"],
  properties: {
    metadata: {
      type: "object",
      properties: { labels: strings, annotations: strings },
    },
    serviceAccountName: {
      ...text(253, SUBDOMAIN),
      description: "Whose identity the hosts have. Immutable: their certificates carry it.",
      "x-kubernetes-validations": [
        { rule: "self == oldSelf", message: "certificates carry it: make another group for another ServiceAccount" },
      ],
    },
    ports: {
      type: "array",
      maxItems: 64,
      items: {
        type: "object",
        required: ["name", "port"],
        properties: {
          name: text(15, "^[a-z0-9]+(-[a-z0-9]+)*$"),
          port,
          protocol: { type: "string", enum: ["TCP"], default: "TCP" },
        },
      },
    },
    opaquePorts: { type: "array", maxItems: 64, items: port },
    probes: { type: "array", maxItems: 16, items: PROBE },
    defaultInboundPolicy: {
      type: "string",
      enum: [
        "all-unauthenticated",
        "all-authenticated",
        "cluster-unauthenticated",
        "cluster-authenticated",
        "all-tls-unauthenticated",
        "deny",
        "audit",
      ],
    },
  },
};

const ADMISSION = {
  type: "object",
  properties: {
    allowedNetworks: {
      type: "array",
      maxItems: 64,
      description: "CIDRs from which hosts may join; none: from anywhere.",
      items: text(49, "^[0-9a-fA-F.:]+/[0-9]{1,3}$"),
    },
    maxHosts: {
      type: "integer",
      format: "int32",
      minimum: 0,
      maximum: 1000,
      description: "Hosts at once, over all invitations; absent: no limit.",
    },
    approval: {
      type: "string",
      enum: ["Automatic", "Manual"],
      default: "Automatic",
      description: "Manual: a host waits until an administrator approves it.",
    },
    hosts: {
      type: "array",
      maxItems: 1000,
      description: "What administrators decided about single hosts (mesh-agent cluster approve, deny).",
      items: {
        type: "object",
        required: ["name", "decision"],
        properties: {
          name: text(63, SUBDOMAIN),
          key: text(64, "^[0-9a-f]{64}$"),
          decision: { type: "string", enum: ["Approve", "Deny"] },
        },
      },
    },
  },
};

const STATUS = {
  type: "object",
  properties: {
    observedGeneration: { type: "integer", format: "int64" },
    registered: { type: "integer", format: "int32" },
    ready: { type: "integer", format: "int32" },
    pending: { type: "integer", format: "int32" },
    outdated: { type: "integer", format: "int32" },
    hosts: {
      type: "array",
      maxItems: 1000,
      items: {
        type: "object",
        required: ["name", "state", "key", "since"],
        properties: {
          name: text(63),
          state: { type: "string", enum: ["Pending", "Admitted", "Denied"] },
          key: { type: "string", maxLength: 64 },
          since: dateTime,
          address: { type: "string", maxLength: 64 },
          hostname: { type: "string", maxLength: 253 },
          invitation: { type: "string", maxLength: 16 },
        },
      },
    },
  },
};

const column = (name: string, type: string, jsonPath: string, more: object = {}) => ({ name, type, jsonPath, ...more });

/** The CustomResourceDefinition of {@link GROUP_KIND}. */
export function groupDefinition(labels: Readonly<Record<string, string>>) {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${GROUPS.plural}.${GROUPS.group}`, labels },
    spec: {
      group: GROUPS.group,
      scope: "Namespaced",
      names: {
        kind: GROUP_KIND,
        listKind: `${GROUP_KIND}List`,
        plural: GROUPS.plural,
        singular: GROUP_KIND.toLowerCase(),
        shortNames: ["ewg"],
        categories: ["external"],
      },
      versions: [
        {
          name: GROUPS.version,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [
            column("Account", "string", ".spec.template.serviceAccountName"),
            column("Approval", "string", ".spec.admission.approval"),
            column("Max", "integer", ".spec.admission.maxHosts"),
            column("Registered", "integer", ".status.registered"),
            column("Ready", "integer", ".status.ready"),
            column("Pending", "integer", ".status.pending"),
            column("Age", "date", ".metadata.creationTimestamp"),
          ],
          schema: {
            openAPIV3Schema: {
              description: "Hosts outside of the cluster that are made from one template and admitted by one rule.",
              type: "object",
              required: ["spec"],
              properties: {
                apiVersion: { type: "string" },
                kind: { type: "string" },
                metadata: {
                  type: "object",
                  // The workload's name, `NAME-` and eight characters, must stay a DNS label.
                  properties: { name: { type: "string", maxLength: 54, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" } },
                },
                spec: {
                  type: "object",
                  required: ["template"],
                  properties: { template: TEMPLATE, admission: ADMISSION },
                },
                status: STATUS,
              },
            },
          },
        },
      ],
    },
  };
}
