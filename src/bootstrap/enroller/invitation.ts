import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { parseCidr } from "../../proxy/core/address.ts";
import { BootstrapError, SECRET_BYTES } from "../control/index.ts";
import { checkGroup, checkNetworks, type ExternalWorkloadGroup, GROUPS, groupTerms } from "./group.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { groupGone } from "./place.ts";
import { SECRETS, type Secret } from "./resources.ts";
import { checkTerms, checkUse, type GroupInvitation, type InvitationTerms } from "./terms.ts";

/** The type of the Secrets, and what their names begin with. They live in the enroller's own namespace. */
export const SECRET_TYPE = "mesh-agent/invitation";
const NAME_PREFIX = "mesh-agent-invitation-";
export const INVITATION_LABEL = "mesh-agent/invitation";
/** Names, as an annotation, the group: admission looks at it to see whether its maker may invite there. */
export const INVITATION_FOR = "mesh-agent/for";

/** A host whose answer got lost may ask again with the same key, without spending another use. */
export const REPLAY_MS = 600_000;
/** Spent and expired invitations stay so long, so that their strings still get an honest answer. */
export const KEEP_DEAD_MS = 7 * 86_400_000;
const CONFLICT_ATTEMPTS = 12;

/** One use of an invitation. */
interface Use {
  /** Fingerprint of the key that was certified. */
  readonly key: string;
  /** For which machine; absent in what an older enroller wrote. */
  readonly machine?: string;
  readonly atMs: number;
}

interface State {
  readonly format: 1;
  readonly uses: readonly Use[];
}

/** What is stored: never the secret. A 256-bit random secret needs no slow hash: it cannot be guessed at any speed. */
function hashOf(secret: Uint8Array): Buffer {
  return createHash("sha256").update("mesh-agent invitation\0").update(secret).digest();
}

/** Terms of their own, or those of a group. */
export type StoredTerms = InvitationTerms | GroupInvitation;

export interface NewInvitation {
  readonly id: string;
  readonly secret: Buffer;
  /** The object to create. */
  readonly object: Secret;
}

/** Makes an invitation: a random secret, and a Secret that can recognise it. */
export function newInvitation(terms: StoredTerms, enrollerNamespace: string): NewInvitation {
  const problem = checkStored(terms);
  if (problem !== undefined) throw new RangeError(problem);
  for (const network of terms.from) {
    if (parseCidr(network) === undefined) throw new RangeError(`"${network}" is not a network (CIDR)`);
  }
  const id = randomBytes(5).toString("hex");
  const secret = randomBytes(SECRET_BYTES);
  return {
    id,
    secret,
    object: {
      apiVersion: "v1",
      kind: "Secret",
      metadata: {
        name: NAME_PREFIX + id,
        namespace: enrollerNamespace,
        labels: { [INVITATION_LABEL]: "true" },
        annotations: { [INVITATION_FOR]: `${terms.namespace}/${terms.name}` },
      },
      type: SECRET_TYPE,
      data: {
        hash: hashOf(secret).toString("base64"),
        terms: encode(terms),
        state: encode({ format: 1, uses: [] } satisfies State),
      },
    },
  };
}

export interface Attempt {
  readonly id: string;
  readonly secret: Uint8Array;
  /** Fingerprint of the key to certify. */
  readonly key: string;
  /** SHA-256 of the machine id, hexadecimal: it makes the workload's name. */
  readonly machine: string;
  /** Where the host calls from. */
  readonly address: string;
  /** Unix milliseconds. */
  readonly wallMs: number;
}

/** What an invitation grants at this moment, and the group that says so. */
export interface Redeemed {
  readonly terms: InvitationTerms;
  readonly group: ExternalWorkloadGroup | undefined;
}

/** What has to be asked on the way. */
export interface Approval {
  /** Before a use is spent; rejects with the reason why it shall not be. May be asked again. */
  before(redeemed: Redeemed): Promise<void>;
  /** Whether this key has spent its use and has waited for an administrator since. */
  waits(redeemed: Redeemed): Promise<boolean>;
}

/**
 * Spends one use, unless `approve` rejects. Two hosts cannot spend the last one: the count is written against the version that was read.
 * The same key for the same machine is a repetition, and costs nothing; for another machine it would be a second host.
 *
 * @throws BootstrapError `invitation-…`; `try-again` if the API server is busy. Whether a secret is wrong or its
 *   invitation unknown is not told apart; expired and spent are told only to those who hold the secret.
 */
export async function redeem(
  client: KubeClient,
  enrollerNamespace: string,
  attempt: Attempt,
  approve: Approval = { before: () => Promise.resolve(), waits: () => Promise.resolve(false) },
): Promise<Redeemed> {
  if (!/^[0-9a-f]{10}$/.test(attempt.id)) throw wrong();
  for (let i = 0; i < CONFLICT_ATTEMPTS; i++) {
    const object = await client.get<Secret>(SECRETS, enrollerNamespace, NAME_PREFIX + attempt.id);
    const stored = Buffer.from(object?.data?.["hash"] ?? "", "base64");
    const given = hashOf(attempt.secret);
    // Compared also when there is nothing to compare with, so that time tells nothing about which ids exist.
    const same = timingSafeEqual(stored.length === given.length ? stored : Buffer.alloc(given.length), given);
    if (object === undefined || object.type !== SECRET_TYPE || !same) throw wrong();
    const { terms: invitation, state } = read(object);
    const use = state.uses.find(({ key, machine }) => key === attempt.key && machine === attempt.machine);
    const repeated = use !== undefined && attempt.wallMs - use.atMs < REPLAY_MS;
    const redeemed = await resolve(client, invitation);
    const { terms } = redeemed;
    // Whoever came in time and was told to wait does not come late.
    const late = attempt.wallMs >= terms.expiresAtMs;
    const waits = use !== undefined && (late || !repeated) && (await approve.waits(redeemed));
    if (late && !waits) {
      throw new BootstrapError("invitation-expired", `the invitation expired at ${iso(terms.expiresAtMs)}`);
    }
    checkNetworks([terms.from, terms.allowedNetworks ?? []], attempt.address);
    if (!repeated && !waits && state.uses.length >= terms.uses) {
      throw new BootstrapError(
        "invitation-spent",
        `the invitation has been used ${times(terms.uses)}, as often as it allows`,
      );
    }
    await approve.before(redeemed);
    if (repeated || waits) return redeemed;
    const { key, machine, wallMs: atMs } = attempt;
    const uses = [...state.uses, { key, machine, atMs }];
    try {
      await client.update<Secret>(SECRETS, enrollerNamespace, {
        ...object,
        data: { ...object.data, state: encode({ format: 1, uses } satisfies State) },
      });
      return redeemed;
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 409) throw error;
    }
  }
  throw new BootstrapError("try-again", "too many hosts use this invitation at the same moment");
}

/** The name of an invitation's Secret; undefined if the text is no id. */
export function invitationName(id: string): string | undefined {
  return /^[0-9a-f]{10}$/.test(id) ? NAME_PREFIX + id : undefined;
}

/** @throws BootstrapError if the Secret is not what {@link newInvitation} and {@link redeem} wrote. */
export function readInvitation(object: Secret): { readonly terms: StoredTerms; readonly used: number } {
  const { terms, state } = read(object);
  return { terms, used: state.uses.length };
}

/** Deletes invitations that have been dead for a week. */
export async function sweepInvitations(client: KubeClient, enrollerNamespace: string, wallMs: number): Promise<void> {
  for (const object of await client.list<Secret>(SECRETS, enrollerNamespace, `${INVITATION_LABEL}=true`)) {
    if (object.type !== SECRET_TYPE) continue;
    const { terms } = read(object);
    if (wallMs - terms.expiresAtMs > KEEP_DEAD_MS)
      await client.delete(SECRETS, enrollerNamespace, object.metadata.name);
  }
}

function read(object: Secret): { readonly terms: StoredTerms; readonly state: State } {
  try {
    const terms = decode<StoredTerms>(object.data?.["terms"]);
    const state = decode<State>(object.data?.["state"]);
    if (state.format !== 1 || checkStored(terms) !== undefined) throw new Error("unknown format");
    // The annotation is what admission judged its maker by: terms for another group were smuggled past it.
    if (object.metadata.annotations?.[INVITATION_FOR] !== `${terms.namespace}/${terms.name}`) {
      throw new Error("the annotation names another group");
    }
    return { terms, state };
  } catch (error) {
    throw new BootstrapError("try-again", `the invitation ${object.metadata.name} is damaged in the cluster`, {
      cause: error,
      remedy: "ask for a new join string (`mesh-agent invite`)",
    });
  }
}

function checkStored(terms: StoredTerms): string | undefined {
  switch (terms.format) {
    case 1:
      return checkTerms(terms);
    case 2:
      return checkUse(terms);
    default:
      // Stored by a later version.
      return (terms satisfies never) ?? "unknown format";
  }
}

/** @throws BootstrapError `group-gone` if there is no such group, or none that makes sense. */
async function resolve(client: KubeClient, stored: StoredTerms): Promise<Redeemed> {
  if (stored.format === 1) return { terms: stored, group: undefined };
  const { namespace, name } = stored;
  const group = await client.get<ExternalWorkloadGroup>(GROUPS, namespace, name);
  if (group === undefined || group.metadata.deletionTimestamp !== undefined) throw groupGone(namespace, name);
  const problem = checkGroup(group);
  if (problem !== undefined) {
    throw new BootstrapError("group-gone", `the ExternalWorkloadGroup ${namespace}/${name} is not valid: ${problem}`);
  }
  return { terms: { ...groupTerms(group), ...stored, format: 1 }, group };
}

function wrong(): BootstrapError {
  return new BootstrapError("invitation-wrong", "the enroller does not know this invitation");
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64");
}

/** Our own writing, read back: checked for its format by {@link read}. */
function decode<T>(text: string | undefined): T {
  return JSON.parse(Buffer.from(text ?? "", "base64").toString()) as T;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}
