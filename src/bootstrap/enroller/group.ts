import { cidrContains, parseCidr, parseIp } from "../../proxy/core/address.ts";
import { BootstrapError, PROBE_DEFAULTS, type Probe, type ProbeKind, type WorkloadPort } from "../control/index.ts";
import type { KubeObject, ResourceType } from "./kubernetes.ts";
import { checkTerms, type GroupTerms, type InvitationTerms, opaquePortsOf } from "./terms.ts";

export const GROUP_KIND = "ExternalWorkloadGroup";
export const GROUPS: ResourceType = {
  group: "mesh-agent.io",
  version: "v1alpha1",
  plural: "externalworkloadgroups",
};

/** A probe as it is written in a group: the words and units of a Kubernetes readiness probe. */
export interface GroupProbe {
  readonly httpGet?: { readonly port: number; readonly path?: string };
  readonly tcpSocket?: { readonly port: number };
  readonly grpc?: { readonly port: number; readonly service?: string };
  readonly exec?: { readonly command: readonly string[] };
  readonly periodSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly successThreshold?: number;
  readonly failureThreshold?: number;
  readonly initialDelaySeconds?: number;
}

/** What the ExternalWorkload of every host of the group is made from. */
export interface GroupTemplate {
  readonly metadata?: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  /** Whose identity the hosts have. Never changes: certificates carry it. */
  readonly serviceAccountName: string;
  readonly ports?: readonly { readonly name: string; readonly port: number; readonly protocol?: string }[];
  readonly opaquePorts?: readonly number[];
  readonly probes?: readonly GroupProbe[];
  readonly defaultInboundPolicy?: string;
}

/** What an administrator says of one host that asked to join. */
export interface HostDecision {
  /** Name of the host's ExternalWorkload. */
  readonly name: string;
  /** Fingerprint of the key that is meant; absent: whichever it shows. */
  readonly key?: string;
  readonly decision: "Approve" | "Deny";
}

export interface GroupAdmission {
  /** CIDRs from which hosts may join; absent or empty: from anywhere. */
  readonly allowedNetworks?: readonly string[];
  /** Hosts at once, over all invitations; absent: no limit. */
  readonly maxHosts?: number;
  /** `Manual`: a host waits until an administrator approves it. */
  readonly approval?: "Automatic" | "Manual";
  readonly hosts?: readonly HostDecision[];
}

/** One host that holds a place in the group, or waits for one. Written by the enrollers alone. */
export interface GroupHost {
  readonly name: string;
  readonly state: "Pending" | "Admitted" | "Denied";
  /** Fingerprint of the key that it asked with. */
  readonly key: string;
  /** Since when it is in this state, RFC 3339. */
  readonly since: string;
  readonly address?: string;
  /** What the machine calls itself: a hint for people, proven by nothing. */
  readonly hostname?: string;
  /** Id of the invitation. */
  readonly invitation?: string;
}

export interface GroupStatus {
  readonly observedGeneration?: number;
  readonly registered?: number;
  readonly ready?: number;
  readonly pending?: number;
  /** Hosts that have not been brought to the template yet. */
  readonly outdated?: number;
  readonly hosts?: readonly GroupHost[];
}

/** `mesh-agent.io/v1alpha1`: hosts that are made from one template and admitted by one rule. */
export interface ExternalWorkloadGroup extends KubeObject {
  readonly spec: { readonly template: GroupTemplate; readonly admission?: GroupAdmission };
  readonly status?: GroupStatus;
}

/** What a group's template promises its hosts. */
export function groupTerms(group: ExternalWorkloadGroup): GroupTerms {
  const { template, admission } = group.spec;
  const ports: readonly WorkloadPort[] = (template.ports ?? []).map(({ name, port }) => ({
    name,
    port,
    protocol: "TCP",
  }));
  return {
    serviceAccount: template.serviceAccountName,
    ports,
    opaquePorts: opaquePortsOf(ports, template.opaquePorts ?? []),
    probes: (template.probes ?? []).flatMap((probe) => readProbe(probe) ?? []),
    labels: template.metadata?.labels ?? {},
    annotations: template.metadata?.annotations ?? {},
    ...(template.defaultInboundPolicy !== undefined && { defaultInboundPolicy: template.defaultInboundPolicy }),
    allowedNetworks: admission?.allowedNetworks ?? [],
  };
}

/**
 * What is wrong with a group, as one line; undefined if nothing is. Beyond its schema: whoever may write groups is not
 * whoever may write ExternalWorkloads.
 */
export function checkGroup(group: ExternalWorkloadGroup): string | undefined {
  const terms = {
    ...groupTerms(group),
    format: 1,
    name: group.metadata.name,
    from: [],
    uses: 1,
    expiresAtMs: 0,
  } as const;
  const problem = checkTerms({ ...terms, namespace: group.metadata.namespace ?? "" });
  if (problem !== undefined) return problem;
  for (const network of terms.allowedNetworks ?? []) {
    if (parseCidr(network) === undefined) return `"${network}" is not a network (CIDR)`;
  }
  const unread = (group.spec.template.probes ?? []).find((probe) => readProbe(probe) === undefined);
  return unread === undefined ? undefined : "a probe needs exactly one of httpGet, tcpSocket, grpc and exec";
}

/** The group that terms given on a command line describe. */
export function groupFor(terms: InvitationTerms, admission: GroupAdmission): ExternalWorkloadGroup {
  const { labels, annotations = {} } = terms;
  const metadata = {
    ...(Object.keys(labels).length > 0 && { labels }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
  const template: GroupTemplate = {
    ...(Object.keys(metadata).length > 0 && { metadata }),
    serviceAccountName: terms.serviceAccount,
    ...(terms.ports.length > 0 && { ports: terms.ports }),
    ...(terms.opaquePorts.length > 0 && { opaquePorts: terms.opaquePorts }),
    ...(terms.probes.length > 0 && { probes: terms.probes.map(writeProbe) }),
    ...(terms.defaultInboundPolicy !== undefined && { defaultInboundPolicy: terms.defaultInboundPolicy }),
  };
  return {
    apiVersion: `${GROUPS.group}/${GROUPS.version}`,
    kind: GROUP_KIND,
    metadata: { name: terms.name, namespace: terms.namespace },
    spec: { template, ...(Object.keys(admission).length > 0 && { admission }) },
  };
}

/** @throws BootstrapError `invitation-network` unless every list of networks permits the address. */
export function checkNetworks(lists: readonly (readonly string[])[], address: string): void {
  const ip = parseIp(address);
  for (const networks of lists) {
    if (networks.length === 0) continue;
    const permitted = networks.some((network) => {
      const cidr = parseCidr(network);
      return cidr !== undefined && ip !== undefined && cidrContains(cidr, ip);
    });
    if (!permitted) throw new BootstrapError("invitation-network", `the invitation may not be used from ${address}`);
  }
}

function readProbe(probe: GroupProbe): Probe | undefined {
  const kinds: ProbeKind[] = [];
  const { httpGet, tcpSocket, grpc, exec } = probe;
  if (httpGet !== undefined) kinds.push({ kind: "http", port: httpGet.port, path: httpGet.path ?? "/" });
  if (tcpSocket !== undefined) kinds.push({ kind: "tcp", port: tcpSocket.port });
  if (grpc !== undefined) kinds.push({ kind: "grpc", port: grpc.port, service: grpc.service ?? "" });
  if (exec !== undefined) kinds.push({ kind: "exec", command: exec.command });
  const [check, ...more] = kinds;
  if (check === undefined || more.length > 0) return undefined;
  const { periodMs, timeoutMs, successThreshold, failureThreshold, initialDelayMs } = PROBE_DEFAULTS;
  return {
    check,
    periodMs: milliseconds(probe.periodSeconds) ?? periodMs,
    timeoutMs: milliseconds(probe.timeoutSeconds) ?? timeoutMs,
    successThreshold: probe.successThreshold ?? successThreshold,
    failureThreshold: probe.failureThreshold ?? failureThreshold,
    initialDelayMs: milliseconds(probe.initialDelaySeconds) ?? initialDelayMs,
  };
}

function writeProbe({ check, ...timing }: Probe): GroupProbe {
  const said = {
    ...(timing.periodMs !== PROBE_DEFAULTS.periodMs && { periodSeconds: timing.periodMs / 1000 }),
    ...(timing.timeoutMs !== PROBE_DEFAULTS.timeoutMs && { timeoutSeconds: timing.timeoutMs / 1000 }),
  };
  switch (check.kind) {
    case "http":
      return { httpGet: { port: check.port, path: check.path }, ...said };
    case "tcp":
      return { tcpSocket: { port: check.port }, ...said };
    case "grpc":
      return { grpc: { port: check.port, ...(check.service !== "" && { service: check.service }) }, ...said };
    case "exec":
      return { exec: { command: check.command }, ...said };
    default:
      return check satisfies never;
  }
}

function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
