import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { cidrContains, parseCidr, parseIp } from "../../proxy/core/address.ts";
import { BootstrapError, SECRET_BYTES } from "../control/index.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { SECRETS, type Secret } from "./resources.ts";
import { checkTerms, type InvitationTerms } from "./terms.ts";

/** The type of the Secrets, and what their names begin with. They live in the enroller's own namespace. */
const SECRET_TYPE = "mesh-agent/invitation";
const NAME_PREFIX = "mesh-agent-invitation-";
export const INVITATION_LABEL = "mesh-agent/invitation";

/** A host whose answer got lost may ask again with the same key, without spending another use. */
const REPLAY_MS = 600_000;
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

export interface NewInvitation {
  readonly id: string;
  readonly secret: Buffer;
  /** The object to create. */
  readonly object: Secret;
}

/** Makes an invitation: a random secret, and a Secret that can recognise it. */
export function newInvitation(terms: InvitationTerms, enrollerNamespace: string): NewInvitation {
  const problem = checkTerms(terms);
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
        annotations: { "mesh-agent/for": `${terms.namespace}/${terms.name}` },
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
  approve: (terms: InvitationTerms) => Promise<void> = () => Promise.resolve(),
): Promise<InvitationTerms> {
  if (!/^[0-9a-f]{10}$/.test(attempt.id)) throw wrong();
  for (let i = 0; i < CONFLICT_ATTEMPTS; i++) {
    const object = await client.get<Secret>(SECRETS, enrollerNamespace, NAME_PREFIX + attempt.id);
    const stored = Buffer.from(object?.data?.["hash"] ?? "", "base64");
    const given = hashOf(attempt.secret);
    // Compared also when there is nothing to compare with, so that time tells nothing about which ids exist.
    const same = timingSafeEqual(stored.length === given.length ? stored : Buffer.alloc(given.length), given);
    if (object === undefined || object.type !== SECRET_TYPE || !same) throw wrong();
    const { terms, state } = read(object);
    if (attempt.wallMs >= terms.expiresAtMs) {
      throw new BootstrapError("invitation-expired", `the invitation expired at ${iso(terms.expiresAtMs)}`);
    }
    if (!allowed(terms.from, attempt.address)) {
      throw new BootstrapError("invitation-network", `the invitation may not be used from ${attempt.address}`);
    }
    const repeated = state.uses.some((use) => isRepetition(use, attempt));
    if (!repeated && state.uses.length >= terms.uses) {
      throw new BootstrapError(
        "invitation-spent",
        `the invitation has been used ${times(terms.uses)}, as often as it allows`,
      );
    }
    await approve(terms);
    if (repeated) return terms;
    const { key, machine, wallMs: atMs } = attempt;
    const uses = [...state.uses, { key, machine, atMs }];
    try {
      await client.update<Secret>(SECRETS, enrollerNamespace, {
        ...object,
        data: { ...object.data, state: encode({ format: 1, uses } satisfies State) },
      });
      return terms;
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
export function readInvitation(object: Secret): { readonly terms: InvitationTerms; readonly used: number } {
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

function read(object: Secret): { readonly terms: InvitationTerms; readonly state: State } {
  try {
    const terms = decode<InvitationTerms>(object.data?.["terms"]);
    const state = decode<State>(object.data?.["state"]);
    if (terms.format !== 1 || state.format !== 1 || checkTerms(terms) !== undefined) throw new Error("unknown format");
    return { terms, state };
  } catch (error) {
    throw new BootstrapError("try-again", `the invitation ${object.metadata.name} is damaged in the cluster`, {
      cause: error,
      remedy: "ask for a new join string (`mesh-agent invite`)",
    });
  }
}

function isRepetition(use: Use, { key, machine, wallMs }: Attempt): boolean {
  return use.key === key && use.machine === machine && wallMs - use.atMs < REPLAY_MS;
}

function allowed(networks: readonly string[], address: string): boolean {
  if (networks.length === 0) return true;
  const ip = parseIp(address);
  return (
    ip !== undefined &&
    networks.some((network) => {
      const cidr = parseCidr(network);
      return cidr !== undefined && cidrContains(cidr, ip);
    })
  );
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
