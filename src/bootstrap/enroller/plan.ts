import { createHash } from "node:crypto";
import {
  identityName,
  identityUri,
  type MeshNames,
  type Probe,
  printable,
  type WorkloadName,
  type WorkloadPort,
} from "../control/index.ts";
import { type Condition, type ExternalWorkload, readyCondition } from "./resources.ts";
import type { GroupTerms, InvitationTerms } from "./terms.ts";

/** Everything that is remembered of a host; the ExternalWorkload itself is the memory. */
export interface Registration {
  readonly workload: WorkloadName;
  readonly ports: readonly WorkloadPort[];
  readonly opaquePorts: readonly number[];
  readonly probes: readonly Probe[];
  /** The administrator's, without our own. */
  readonly labels: Readonly<Record<string, string>>;
  /** The group's, without our own and those of others. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Name of its ExternalWorkloadGroup, if it came by one. */
  readonly group: string | undefined;
  /** Which version of the group's template it was made from: {@link templateOf}. */
  readonly template: string | undefined;
  readonly defaultInboundPolicy: string | undefined;
  /** Id of the invitation it came with. */
  readonly invitation: string;
  /** SHA-256 of the machine id, hexadecimal: one workload, one machine. */
  readonly machine: string;
  /** Fingerprints of the keys it may prove itself with, newest first: the last two. */
  readonly keys: readonly string[];
  /** Since when it is out of service for a change of what peers hold on to, RFC 3339; absent: it is not. */
  readonly changing?: string | undefined;
  /** Why it was revoked, if it was. */
  readonly revoked: string | undefined;
  /** When the last certificate that was issued to it ends, RFC 3339. */
  readonly certificateEnds: string | undefined;
  /** Declare port 4191, on which meshed scrapers find the proxy's metrics. */
  readonly metricsPort: boolean;
}

const MACHINE = "mesh-agent/machine";
const KEYS = "mesh-agent/keys";
const INVITATION = "mesh-agent/invitation";
const SERVICE_ACCOUNT = "mesh-agent/service-account";
const PROBES = "mesh-agent/probes";
const CHANGING = "mesh-agent/changing";
const CERTIFICATE_ENDS = "mesh-agent/certificate-ends";
export const REVOKED = "mesh-agent/revoked";
/** Marks, as a label, every object that the enroller keeps. */
export const MANAGED = "mesh-agent/managed";
/** Names, as a label, the ExternalWorkloadGroup of a host. */
export const GROUP_LABEL = "mesh-agent/group";
const TEMPLATE = "mesh-agent/template";
// Which annotations are the group's: others may have written some too.
const ANNOTATIONS = "mesh-agent/annotations";
const OPAQUE_PORTS = "config.linkerd.io/opaque-ports";
const DEFAULT_POLICY = "config.linkerd.io/default-inbound-policy";

const METRICS_PORT: WorkloadPort = { name: "linkerd-admin", port: 4191, protocol: "TCP" };

const KEPT_KEYS = 2;

/** The workload's name: the invitation's, and what makes this machine's different from its siblings'. */
export function workloadNameOf(terms: InvitationTerms, machine: string): WorkloadName {
  const seed = createHash("sha256").update(`${terms.namespace}/${terms.name}/${machine}`).digest("hex");
  return {
    namespace: terms.namespace,
    name: `${terms.name}-${seed.slice(0, 8)}`,
    serviceAccount: terms.serviceAccount,
  };
}

/** A short name for what a group's template says, so that a host made from another version is found. */
export function templateOf(terms: Omit<GroupTerms, "allowedNetworks">): string {
  const { ports, opaquePorts, probes, labels, annotations = {}, defaultInboundPolicy = "" } = terms;
  const sorted = (map: Readonly<Record<string, string>>) => Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
  const said = [ports, opaquePorts, probes, sorted(labels), sorted(annotations), defaultInboundPolicy];
  return createHash("sha256").update(JSON.stringify(said)).digest("hex").slice(0, 16);
}

/** What an accepted invitation makes of a host. */
export function planRegistration(
  terms: InvitationTerms,
  invitation: string,
  machine: string,
  key: string,
  metricsPort: boolean,
  group?: string,
): Registration {
  return {
    workload: workloadNameOf(terms, machine),
    ports: terms.ports,
    opaquePorts: terms.opaquePorts,
    probes: terms.probes,
    labels: terms.labels,
    annotations: terms.annotations ?? {},
    group,
    template: group === undefined ? undefined : templateOf(terms),
    defaultInboundPolicy: terms.defaultInboundPolicy,
    invitation,
    machine,
    keys: [key],
    revoked: undefined,
    certificateEnds: undefined,
    metricsPort,
  };
}

/**
 * The registration after a certificate was made for a key. The key before stays good until the next renewal: answers
 * get lost.
 */
export function withCertificate(registration: Registration, key: string, notAfterMs: number): Registration {
  const keys = [key, ...registration.keys.filter((known) => known !== key)].slice(0, KEPT_KEYS);
  return { ...registration, keys, certificateEnds: new Date(notAfterMs).toISOString() };
}

/**
 * The wanted ExternalWorkload, without status.
 *
 * @param addresses - Where peers reach the host: at most one per family; none while it is unknown.
 */
export function planWorkload(
  registration: Registration,
  addresses: readonly string[],
  mesh: MeshNames,
): ExternalWorkload {
  const { workload, ports } = registration;
  const wantsMetrics = registration.metricsPort && !ports.some(({ port }) => port === METRICS_PORT.port);
  const declared = wantsMetrics ? [...ports, METRICS_PORT] : ports;
  return {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: {
      name: workload.name,
      namespace: workload.namespace,
      labels: {
        ...registration.labels,
        [MANAGED]: "true",
        ...(registration.group === undefined ? {} : { [GROUP_LABEL]: registration.group }),
      },
      annotations: {
        ...registration.annotations,
        ...(Object.keys(registration.annotations).length === 0
          ? {}
          : { [ANNOTATIONS]: Object.keys(registration.annotations).sort().join(",") }),
        // Numbers only: one name makes the policy controller drop the whole list. Present even if empty: without it,
        // destination uses the cluster's default list and the policy controller none.
        [OPAQUE_PORTS]: registration.opaquePorts.join(","),
        ...(registration.defaultInboundPolicy === undefined
          ? {}
          : { [DEFAULT_POLICY]: registration.defaultInboundPolicy }),
        ...(registration.template === undefined ? {} : { [TEMPLATE]: registration.template }),
        [MACHINE]: registration.machine,
        [KEYS]: registration.keys.join(","),
        [INVITATION]: registration.invitation,
        [SERVICE_ACCOUNT]: workload.serviceAccount,
        [PROBES]: JSON.stringify(registration.probes),
        ...(registration.certificateEnds === undefined ? {} : { [CERTIFICATE_ENDS]: registration.certificateEnds }),
        ...(registration.revoked === undefined ? {} : { [REVOKED]: registration.revoked }),
        ...(registration.changing === undefined ? {} : { [CHANGING]: registration.changing }),
      },
    },
    spec: {
      meshTLS: {
        // A URI: destination sends it as one, and a client that cannot parse it speaks plaintext without a word.
        identity: identityUri(workload.serviceAccount, workload.namespace, mesh),
        serverName: identityName(workload.serviceAccount, workload.namespace, mesh),
      },
      ports: declared.map(({ name, port, protocol }) => ({ name, port, protocol })),
      ...(addresses.length === 0 ? {} : { workloadIPs: addresses.map((ip) => ({ ip })) }),
    },
  };
}

/**
 * Reads back what {@link planWorkload} wrote.
 * @returns undefined if the object is not one of ours.
 */
export function readRegistration(object: ExternalWorkload): Registration | undefined {
  const annotations = object.metadata.annotations ?? {};
  const machine = annotations[MACHINE];
  const serviceAccount = annotations[SERVICE_ACCOUNT];
  if (machine === undefined || serviceAccount === undefined || object.metadata.namespace === undefined)
    return undefined;
  const { [MANAGED]: _ours, [GROUP_LABEL]: group, ...labels } = object.metadata.labels ?? {};
  const theirs = (annotations[ANNOTATIONS] ?? "").split(",");
  const opaque = (annotations[OPAQUE_PORTS] ?? "").split(",").filter((text) => text !== "");
  return {
    workload: { namespace: object.metadata.namespace, name: object.metadata.name, serviceAccount },
    ports: (object.spec?.ports ?? [])
      .filter(({ name }) => name !== METRICS_PORT.name)
      .map(({ name, port }) => ({ name: name ?? `port-${port}`, port, protocol: "TCP" })),
    opaquePorts: opaque.map(Number).filter(Number.isInteger),
    probes: readProbes(annotations[PROBES]),
    labels,
    annotations: Object.fromEntries(Object.entries(annotations).filter(([key]) => theirs.includes(key))),
    group,
    template: annotations[TEMPLATE],
    defaultInboundPolicy: annotations[DEFAULT_POLICY],
    invitation: annotations[INVITATION] ?? "",
    machine,
    keys: (annotations[KEYS] ?? "").split(",").filter((key) => key !== ""),
    revoked: annotations[REVOKED],
    ...(annotations[CHANGING] !== undefined && { changing: annotations[CHANGING] }),
    certificateEnds: annotations[CERTIFICATE_ENDS],
    metricsPort: (object.spec?.ports ?? []).some(({ name }) => name === METRICS_PORT.name),
  };
}

/** The annotation is ours, but anybody who may edit the object can spoil it: then there are no probes. */
function readProbes(text: string | undefined): readonly Probe[] {
  try {
    const value: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(value) ? (value as Probe[]) : [];
  } catch {
    return [];
  }
}

export function addressesOf(object: ExternalWorkload): readonly string[] {
  return (object.spec?.workloadIPs ?? []).map(({ ip }) => ip);
}

/**
 * Whether a change must not be made while the workload is Ready: destination compares endpoints by namespace and name
 * only, so open streams would keep the old address, ports, identity or protocol for up to an hour.
 */
export function needsQuiet(current: ExternalWorkload, wanted: ExternalWorkload): boolean {
  const face = (object: ExternalWorkload) =>
    JSON.stringify([
      addressesOf(object),
      object.spec?.meshTLS.identity,
      object.spec?.meshTLS.serverName,
      (object.spec?.ports ?? []).map(({ name, port, protocol }) => [name, port, protocol ?? "TCP"]),
      object.metadata.annotations?.[OPAQUE_PORTS],
    ]);
  return face(current) !== face(wanted);
}

export interface Readiness {
  readonly ready: boolean;
  /** A CamelCase word, such as `Attached` or `HostUnreachable`. */
  readonly reason: string;
  readonly message: string;
}

/** Whether two states say the same, so that nothing has to be written. */
export function sameReadiness(condition: Condition | undefined, wanted: Readiness): boolean {
  return (
    condition !== undefined &&
    condition.status === (wanted.ready ? "True" : "False") &&
    condition.reason === cleanReason(wanted.reason) &&
    condition.message === cleanMessage(wanted.message)
  );
}

/**
 * The object for a write to `/status`: the one place where Ready counts. Conditions are an atomic list, so those of
 * others are carried along.
 *
 * @param nowIso - RFC 3339; becomes the transition time if the status changes.
 */
export function planStatus(current: ExternalWorkload, wanted: Readiness, nowIso: string): ExternalWorkload {
  const before = readyCondition(current);
  const status = wanted.ready ? "True" : "False";
  const since = before?.status === status ? before.lastTransitionTime : undefined;
  const ready: Condition = {
    type: "Ready",
    status,
    reason: cleanReason(wanted.reason),
    message: cleanMessage(wanted.message),
    lastTransitionTime: since ?? nowIso,
  };
  const others = (current.status?.conditions ?? []).filter((condition) => condition.type !== "Ready");
  return {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: {
      name: current.metadata.name,
      ...(current.metadata.namespace && { namespace: current.metadata.namespace }),
    },
    // Never a status without conditions: the policy controller cannot decode one.
    status: { conditions: [...others, ready] },
  };
}

// The schema's pattern; a host supplies reason and message, and must not be able to make the write fail.
function cleanReason(reason: string): string {
  return /^[A-Za-z](?:[A-Za-z0-9_,:]{0,253}[A-Za-z0-9_])?$/.test(reason) ? reason : "Unknown";
}

function cleanMessage(message: string): string {
  return printable(message, 1024);
}
