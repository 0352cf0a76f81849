import { INVITATION_FOR, INVITATION_LABEL, invitationName, readInvitation } from "./invitation.ts";
import type { KubeClient } from "./kubernetes.ts";
import { SECRETS, type Secret } from "./resources.ts";

/** An invitation as its administrator sees it; the secret is nowhere. */
export interface InvitationSummary {
  readonly id: string;
  /** `NAMESPACE/NAME` of the group. */
  readonly group: string;
  readonly used: number;
  readonly uses: number;
  /** CIDRs; empty: from anywhere. */
  readonly from: readonly string[];
  /** RFC 3339. */
  readonly expires: string;
  readonly state: "open" | "spent" | "expired" | "damaged";
}

/** Every invitation that is kept, the next to expire first; spent and expired ones stay for a week. */
export async function listInvitations(
  client: KubeClient,
  enrollerNamespace: string,
  wallMs: number,
): Promise<readonly InvitationSummary[]> {
  const objects = await client.list<Secret>(SECRETS, enrollerNamespace, `${INVITATION_LABEL}=true`);
  return objects
    .map((object) => summaryOf(object, wallMs))
    .filter((summary) => summary !== undefined)
    .sort((a, b) => a.expires.localeCompare(b.expires));
}

/**
 * Takes an invitation away: its string is unknown from now on. Hosts that have joined with it stay.
 * @returns whether there was one.
 */
export async function revokeInvitation(client: KubeClient, enrollerNamespace: string, id: string): Promise<boolean> {
  const name = invitationName(id);
  if (name === undefined) return false;
  const object = await client.get<Secret>(SECRETS, enrollerNamespace, name);
  if (object?.metadata.labels?.[INVITATION_LABEL] === undefined) return false;
  await client.delete(SECRETS, enrollerNamespace, name);
  return true;
}

function summaryOf(object: Secret, wallMs: number): InvitationSummary | undefined {
  const id = object.metadata.name.slice(-10);
  if (invitationName(id) !== object.metadata.name) return undefined;
  const group = object.metadata.annotations?.[INVITATION_FOR] ?? "";
  try {
    const { terms, used } = readInvitation(object);
    return {
      id,
      group: `${terms.namespace}/${terms.name}`,
      used,
      uses: terms.uses,
      from: terms.from,
      expires: new Date(terms.expiresAtMs).toISOString(),
      state: wallMs >= terms.expiresAtMs ? "expired" : used >= terms.uses ? "spent" : "open",
    };
  } catch {
    return { id, group, used: 0, uses: 0, from: [], expires: "", state: "damaged" };
  }
}
