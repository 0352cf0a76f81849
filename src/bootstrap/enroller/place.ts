import { BootstrapError, printable } from "../control/index.ts";
import { FIELD_MANAGER } from "./apply.ts";
import { decisionOn } from "./approval.ts";
import { type ExternalWorkloadGroup, GROUPS, type GroupHost } from "./group.ts";
import { type KubeClient, KubeError, type KubeObject } from "./kubernetes.ts";
import { GROUP_LABEL } from "./plan.ts";
import { EXTERNAL_WORKLOADS } from "./resources.ts";

const CONFLICT_ATTEMPTS = 12;
/** Hosts that one group lists; at 300 bytes each it stays far below what an API server stores in an object. */
const MAX_LISTED = 1000;

/** A host that asks for a place in its group. */
export interface Claim {
  /** Name of its ExternalWorkload. */
  readonly name: string;
  /** Fingerprint of the key to certify. */
  readonly key: string;
  readonly address: string;
  readonly hostname: string;
  readonly invitation: string;
  /** Unix milliseconds. */
  readonly wallMs: number;
}

/**
 * Gives a host its place in the group, or finds the one it has. The list is written against the version that was read:
 * two hosts cannot take the last place, whichever replicas and invitations they come by.
 *
 * @returns what the host may do: join, or wait for an administrator.
 * @throws BootstrapError `group-gone`, `group-full`, `approval-denied`; `try-again` if the API server is busy; KubeError.
 */
export async function takePlace(
  client: KubeClient,
  namespace: string,
  groupName: string,
  claim: Claim,
): Promise<"admitted" | "pending"> {
  for (let attempt = 0; attempt < CONFLICT_ATTEMPTS; attempt++) {
    const group = await client.get<ExternalWorkloadGroup>(GROUPS, namespace, groupName);
    if (group === undefined) throw groupGone(namespace, groupName);
    const registered = group.spec.admission?.maxHosts === undefined ? [] : await hostsOf(client, namespace, groupName);
    const { state, hosts } = judgeClaim(group, registered, claim);
    try {
      if (hosts !== undefined) await writeHosts(client, group, hosts);
    } catch (error) {
      if (error instanceof KubeError && error.code === 409) continue;
      throw error;
    }
    if (state === "Denied") {
      throw new BootstrapError("approval-denied", `an administrator has denied ${namespace}/${claim.name}`);
    }
    return state === "Admitted" ? "admitted" : "pending";
  }
  throw new BootstrapError("try-again", "too many hosts join this group at the same moment");
}

/** The place that a host holds with this key, if it does. */
export function placeOf(group: ExternalWorkloadGroup, name: string, key: string): GroupHost | undefined {
  return group.status?.hosts?.find((host) => host.name === name && host.key === key);
}

/**
 * What becomes of a claim: pure.
 *
 * @param registered - Names of the ExternalWorkloads that the group has: they hold places, listed or not.
 * @returns the list to write; undefined if the old one says it already.
 * @throws BootstrapError `group-full`
 */
export function judgeClaim(
  group: ExternalWorkloadGroup,
  registered: readonly string[],
  claim: Claim,
): { readonly state: GroupHost["state"]; readonly hosts: readonly GroupHost[] | undefined } {
  const { maxHosts, approval = "Automatic", hosts: decisions = [] } = group.spec.admission ?? {};
  const listed = group.status?.hosts ?? [];
  // One about another key is about another machine.
  const said = decisionOn(decisions, claim);
  const state =
    said?.decision === "Deny" ? "Denied" : approval === "Automatic" || said !== undefined ? "Admitted" : "Pending";
  const known = listed.find(({ name }) => name === claim.name);
  if (known?.key === claim.key && known.state === state) return { state, hosts: undefined };
  if (state !== "Denied" && !registered.includes(claim.name) && (known === undefined || known.state === "Denied")) {
    const taken = new Set([...registered, ...listed.filter((host) => host.state !== "Denied").map(({ name }) => name)]);
    if (taken.size >= (maxHosts ?? MAX_LISTED) && (maxHosts !== undefined || state === "Pending")) {
      const full = `the group ${group.metadata.namespace}/${group.metadata.name} has ${taken.size} hosts, as many as it allows`;
      throw new BootstrapError("group-full", full);
    }
  }
  // Nothing to count and nothing to ask: no write for each of a thousand hosts.
  if (known === undefined && state === "Admitted" && maxHosts === undefined && approval === "Automatic") {
    return { state, hosts: undefined };
  }
  const place: GroupHost = {
    name: claim.name,
    state,
    key: claim.key,
    since: new Date(claim.wallMs).toISOString(),
    address: claim.address,
    hostname: printable(claim.hostname, 253),
    invitation: claim.invitation,
  };
  const others = listed.filter(({ name }) => name !== claim.name);
  return { state, hosts: [...others, place].slice(-MAX_LISTED) };
}

/** Writes the list, against the version that was read. @throws KubeError 409 if another writer came first. */
export function writeHosts(
  client: KubeClient,
  group: ExternalWorkloadGroup,
  hosts: readonly GroupHost[],
  counts: Omit<NonNullable<ExternalWorkloadGroup["status"]>, "hosts" | "pending"> = countsOf(group),
): Promise<KubeObject> {
  const { name, namespace = "", resourceVersion = "" } = group.metadata;
  const pending = hosts.filter(({ state }) => state === "Pending").length;
  const object = {
    apiVersion: group.apiVersion,
    kind: group.kind,
    metadata: { name, namespace, resourceVersion },
    status: { ...counts, pending, hosts },
  };
  return client.apply<KubeObject>(GROUPS, namespace, object, FIELD_MANAGER, "status");
}

function countsOf({ status = {} }: ExternalWorkloadGroup): Omit<typeof status, "hosts" | "pending"> {
  const { hosts: _hosts, pending: _pending, ...counts } = status;
  return counts;
}

async function hostsOf(client: KubeClient, namespace: string, group: string): Promise<readonly string[]> {
  const found = await client.list(EXTERNAL_WORKLOADS, namespace, `${GROUP_LABEL}=${group}`);
  return found.map(({ metadata }) => metadata.name);
}

export function groupGone(namespace: string, name: string): BootstrapError {
  return new BootstrapError("group-gone", `there is no ExternalWorkloadGroup ${namespace}/${name} any more`);
}
