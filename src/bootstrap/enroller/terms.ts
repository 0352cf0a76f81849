import type { Probe, WorkloadPort } from "../control/index.ts";

/** What an invitation promises and demands; the host has no say in it. Plain data, stored as JSON. */
export interface InvitationTerms {
  readonly format: 1;
  readonly namespace: string;
  /** The group: a workload is called `NAME-` and eight characters made from its machine id. */
  readonly name: string;
  readonly serviceAccount: string;
  readonly ports: readonly WorkloadPort[];
  readonly opaquePorts: readonly number[];
  readonly probes: readonly Probe[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** CIDRs from which the group admits hosts; absent or empty: from anywhere. */
  readonly allowedNetworks?: readonly string[];
  /** CIDRs from which the string may be used; empty: from anywhere. */
  readonly from: readonly string[];
  readonly uses: number;
  /** Unix milliseconds. */
  readonly expiresAtMs: number;
  /** `config.linkerd.io/default-inbound-policy`, if the group has one of its own. */
  readonly defaultInboundPolicy?: string;
}

/** The part of the terms that a group decides; where, how often and how long is the invitation's. */
export type GroupTerms = Pick<
  InvitationTerms,
  | "serviceAccount"
  | "ports"
  | "opaquePorts"
  | "probes"
  | "labels"
  | "annotations"
  | "defaultInboundPolicy"
  | "allowedNetworks"
>;

/** What is stored of an invitation into an ExternalWorkloadGroup: the rest is what the group says when it is used. */
export interface GroupInvitation extends Pick<InvitationTerms, "namespace" | "name" | "from" | "uses" | "expiresAtMs"> {
  readonly format: 2;
}

// Linkerd's `proxy.opaquePorts`: protocols in which the server speaks first, or that look like nothing known.
export const DEFAULT_OPAQUE_PORTS: readonly number[] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/**
 * The opaque ports of a workload: those asked for, and declared ports that the cluster would treat as opaque by its
 * defaults, unless their name says HTTP. Written out, because destination and policy controller have different defaults.
 */
export function opaquePortsOf(ports: readonly WorkloadPort[], asked: readonly number[]): readonly number[] {
  const byDefault = ports
    .filter(({ name, port }) => DEFAULT_OPAQUE_PORTS.includes(port) && !/^(?:http|grpc|h2)/.test(name))
    .map(({ port }) => port);
  return [...new Set([...asked, ...byDefault])].sort((a, b) => a - b);
}

const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;
const LABEL_KEY = /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
// The workload's name is a host name in headless Services: with `-` and eight characters it must stay a DNS label.
const MAX_NAME = 63 - 9;

/**
 * Checks terms before they are stored.
 * @returns what is wrong, as one line; undefined if nothing is.
 */
export function checkTerms(terms: InvitationTerms): string | undefined {
  if (!DNS_LABEL.test(terms.name) || terms.name.length > MAX_NAME) {
    return `the name must be a DNS label of at most ${MAX_NAME} characters (a-z, 0-9, -)`;
  }
  if (!DNS_LABEL.test(terms.namespace) || terms.namespace.length > 63) return "the namespace must be a DNS label";
  if (!DNS_SUBDOMAIN.test(terms.serviceAccount)) return "the ServiceAccount's name is not valid";
  const names = new Set<string>();
  const numbers = new Set<number>();
  for (const { name, port } of terms.ports) {
    if (!isPort(port)) return `port ${port} is not within 1-65535`;
    // RFC 6335 §5.1, as Kubernetes wants it; Services find a port by its name.
    if (!/^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*$/.test(name)) return `"${name}" is not a port name`;
    if (names.has(name) || numbers.has(port)) return `port ${name}=${port} is declared twice`;
    names.add(name);
    numbers.add(port);
  }
  const check = checkAnnotations(terms.annotations ?? {});
  if (check !== undefined) return check;
  for (const port of terms.opaquePorts) if (!isPort(port)) return `opaque port ${port} is not within 1-65535`;
  for (const [key, value] of Object.entries(terms.labels)) {
    if (!LABEL_KEY.test(key)) return `"${key}" is not a label key`;
    if (key.startsWith("mesh-agent/")) return `labels under mesh-agent/ are the enroller's own`;
    if (!LABEL_VALUE.test(value)) return `"${value}" is not a label value`;
  }
  return checkUse(terms);
}

/** Checks how often and how long. @returns what is wrong, as one line; undefined if nothing is. */
export function checkUse(terms: Pick<InvitationTerms, "uses" | "expiresAtMs">): string | undefined {
  if (!Number.isSafeInteger(terms.uses) || terms.uses < 1 || terms.uses > 10_000) return "uses must be 1 to 10000";
  if (!Number.isFinite(terms.expiresAtMs)) return "the expiry is not a time";
  return undefined;
}

// Those that are made from the terms, and would be written twice.
const MADE_ANNOTATIONS: readonly string[] = [
  "config.linkerd.io/opaque-ports",
  "config.linkerd.io/default-inbound-policy",
];

function checkAnnotations(annotations: Readonly<Record<string, string>>): string | undefined {
  for (const [key, value] of Object.entries(annotations)) {
    if (!LABEL_KEY.test(key)) return `"${key}" is not an annotation key`;
    if (key.startsWith("mesh-agent/")) return "annotations under mesh-agent/ are the enroller's own";
    if (MADE_ANNOTATIONS.includes(key)) return `${key} is written from the group's own fields`;
    if (value.length > 4096) return `the annotation ${key} is longer than 4096 characters`;
  }
  return undefined;
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65535;
}
