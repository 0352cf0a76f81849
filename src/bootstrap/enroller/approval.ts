import { type ExternalWorkloadGroup, GROUPS, type GroupHost, type HostDecision } from "./group.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";

const CONFLICT_ATTEMPTS = 8;

/** A host that has asked to join, as an administrator sees it. */
export interface WaitingHost extends GroupHost {
  readonly namespace: string;
  readonly group: string;
}

/** Hosts that wait for an administrator, oldest first; of one namespace or of all. */
export async function waitingHosts(client: KubeClient, namespace: string | undefined): Promise<readonly WaitingHost[]> {
  const groups = await client.list<ExternalWorkloadGroup>(GROUPS, namespace);
  return groups
    .flatMap(({ metadata, spec, status }) =>
      (status?.hosts ?? [])
        // Decided already: the host hears of it when it asks the next time.
        .filter((host) => host.state === "Pending" && decisionOn(spec.admission?.hosts ?? [], host) === undefined)
        .map((host) => ({ namespace: metadata.namespace ?? "", group: metadata.name, ...host })),
    )
    .sort((a, b) => a.since.localeCompare(b.since));
}

/**
 * Decides about hosts: the key that each has shown is approved with it, so that no other machine can come in its place.
 *
 * @param choose - Which hosts of the group.
 * @returns what was decided about; empty if the group lists no such host.
 * @throws Error if there is no such group; KubeError.
 */
export async function decide(
  client: KubeClient,
  namespace: string,
  groupName: string,
  decision: HostDecision["decision"],
  choose: (host: GroupHost) => boolean,
): Promise<readonly GroupHost[]> {
  for (let attempt = 1; ; attempt++) {
    const group = await client.get<ExternalWorkloadGroup>(GROUPS, namespace, groupName);
    if (group === undefined) throw new Error(`there is no ExternalWorkloadGroup ${namespace}/${groupName}`);
    const listed = group.status?.hosts ?? [];
    const chosen = listed.filter(choose);
    if (chosen.length === 0) return [];
    const names = new Set(chosen.map(({ name }) => name));
    // What was said of hosts that the group has forgotten goes with them, unless it is meant for whichever key comes.
    const kept = (group.spec.admission?.hosts ?? []).filter(
      ({ name, key }) => !names.has(name) && (key === undefined || listed.some((host) => host.name === name)),
    );
    const hosts = [...kept, ...chosen.map(({ name, key }) => ({ name, key, decision }))];
    try {
      await client.update<ExternalWorkloadGroup>(GROUPS, namespace, {
        ...group,
        spec: { ...group.spec, admission: { ...group.spec.admission, hosts } },
      });
      return chosen;
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 409 || attempt >= CONFLICT_ATTEMPTS) throw error;
    }
  }
}

/** Which group lists a host. @returns undefined if none does. */
export async function groupOfHost(client: KubeClient, namespace: string, host: string): Promise<string | undefined> {
  const groups = await client.list<ExternalWorkloadGroup>(GROUPS, namespace);
  return groups.find(({ status }) => status?.hosts?.some(({ name }) => name === host))?.metadata.name;
}

/** The newest decision about a host with the key that it shows. */
export function decisionOn(
  decisions: readonly HostDecision[],
  host: Pick<GroupHost, "name" | "key">,
): HostDecision | undefined {
  return decisions.findLast(({ name, key }) => name === host.name && (key ?? host.key) === host.key);
}
