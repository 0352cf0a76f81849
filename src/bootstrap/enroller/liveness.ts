import type { Millis } from "../../proxy/core/clock.ts";

export interface LivenessOptions {
  /** A host silent for so long is unreachable. */
  readonly silenceMs: Millis;
  /** One silent for so long may be: it counts beside those that are, though nothing is judged of it yet. */
  readonly suspectMs: Millis;
  /** Hosts that fall silent within this span are judged together. */
  readonly partitionWindowMs: Millis;
  /** So many hosts at least, and more than half of all, make a partition. */
  readonly partitionMin: number;
  /** A younger enroller does not trust what it has not yet heard. */
  readonly graceMs: Millis;
  /** A judgement is put off for no longer than this. */
  readonly holdMs: Millis;
}

export const LIVENESS: LivenessOptions = {
  silenceMs: 10_000,
  // Hosts that are cut off at one moment were last heard up to a heartbeat (3 s) apart, and a busy host beats late: the
  // first of them is judged while the others are silent for seven seconds, or six.
  suspectMs: 5_000,
  partitionWindowMs: 15_000,
  partitionMin: 3,
  graceMs: 60_000,
  holdMs: 300_000,
};

export interface HostSigns {
  readonly key: string;
  /** When the host was last heard, or last known to be held by another replica. */
  readonly heardAt: Millis;
}

export interface Judgement {
  /** Withdraw their readiness. */
  readonly unreachable: readonly string[];
  /** Silent, but the fault may be on our side: wait. */
  readonly held: readonly string[];
  /** Why any are held. */
  readonly why: "partition" | "young" | undefined;
}

/**
 * Decides which silent hosts to give up. When most hosts fall silent together, the likelier fault is between us and
 * them: taking half a mesh out of its Services would turn our failure into theirs.
 *
 * @param hosts - Those expected to be heard: attached here, or held by a replica that died.
 * @param lost - Those given up a short while ago: they fell silent, too.
 * @param startedAt - When this enroller began to listen.
 */
export function judge(
  hosts: readonly HostSigns[],
  lost: readonly HostSigns[],
  startedAt: Millis,
  now: Millis,
  options: LivenessOptions = LIVENESS,
): Judgement {
  const silent = hosts.filter((host) => now - host.heardAt >= options.silenceMs);
  const young = now - startedAt < options.graceMs;
  const suspects = [...hosts.filter((host) => now - host.heardAt >= options.suspectMs), ...lost];
  const partition = silent.some((host) => {
    const together = suspects.filter((other) => Math.abs(other.heardAt - host.heardAt) <= options.partitionWindowMs);
    return together.length >= options.partitionMin && together.length > (hosts.length + lost.length) / 2;
  });
  if (!young && !partition) return { unreachable: silent.map((host) => host.key), held: [], why: undefined };
  const unreachable: string[] = [];
  const held: string[] = [];
  for (const host of silent) (now - host.heardAt >= options.holdMs ? unreachable : held).push(host.key);
  return { unreachable, held, why: held.length === 0 ? undefined : partition ? "partition" : "young" };
}
