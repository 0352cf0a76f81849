/** Exit status of a command that ends with one of these errors (docs/reference.md). */
export type BootstrapExit = 64 | 65 | 69 | 75 | 77;

/**
 * Every way in which joining, renewing or attaching can end badly, with what a command exits with and what to do. The
 * key is the stable code: it travels from the enroller to the host in the trailer `mesh-agent-code`.
 */
export const FAILURES = {
  "join-string-malformed": { exit: 65, remedy: "copy the whole line that `mesh-agent invite` printed" },
  "join-string-altered": { exit: 65, remedy: "copy the whole line that `mesh-agent invite` printed, unchanged" },
  "join-string-version": { exit: 65, remedy: "install a mesh-agent that knows this version" },
  "invitation-wrong": { exit: 65, remedy: "ask for a new join string (`mesh-agent invite`)" },
  "invitation-expired": { exit: 65, remedy: "ask for a new join string (`mesh-agent invite --expires`)" },
  "invitation-spent": { exit: 65, remedy: "ask for a new join string (`mesh-agent invite --uses`)" },
  "invitation-network": { exit: 77, remedy: "join from an allowed network, or invite with another `--from`" },
  "group-gone": {
    exit: 77,
    remedy: "make the ExternalWorkloadGroup again, or ask for another join string (`mesh-agent invite`)",
  },
  "group-full": {
    exit: 77,
    remedy:
      "raise spec.admission.maxHosts of the group, or take hosts out that are gone (`kubectl delete externalworkload`)",
  },
  "approval-pending": {
    exit: 75,
    remedy: "an administrator runs `mesh-agent cluster approve NAMESPACE/HOST`; this host goes on asking",
  },
  "approval-denied": { exit: 77, remedy: "ask an administrator: `mesh-agent cluster approve` takes the denial back" },
  "pin-mismatch": {
    exit: 77,
    remedy: "something else answers at that address, or the mesh's roots were replaced: ask for a new join string",
  },
  "enroller-name": {
    exit: 77,
    remedy: "something else answers at that address: check it, then ask for a new join string",
  },
  "answer-refused": { exit: 77, remedy: "check the enroller's version and its issuer certificate" },
  "issuer-constraints": {
    exit: 77,
    remedy: "give the enroller an issuer whose name constraints permit the mesh's identities",
  },
  "clock-skew": { exit: 75, remedy: "set this host's clock (systemd-timesyncd, chrony), then try again" },
  "workload-taken": {
    exit: 77,
    remedy: "invite under another name, or delete the ExternalWorkload if that host is gone",
  },
  clone: {
    exit: 77,
    remedy: "give each machine its own machine id (systemd-machine-id-setup) and its own join string",
  },
  revoked: { exit: 77, remedy: "ask for a new join string (`mesh-agent invite`)" },
  "unknown-workload": { exit: 77, remedy: "join again with a new join string (`mesh-agent invite`)" },
  "version-skew": { exit: 64, remedy: "bring agent and enroller within one minor version of each other" },
  "request-refused": { exit: 64, remedy: "check the versions of agent and enroller" },
  unreachable: { exit: 69, remedy: "check that this host may connect to the enroller's port (4145/TCP by default)" },
  "rate-limited": { exit: 75, remedy: "wait a minute, then try again" },
  "try-again": { exit: 75, remedy: "try again; the enroller's log says more" },
  "no-identity": { exit: 77, remedy: "join first (`mesh-agent up`)" },
} as const satisfies Record<string, { exit: BootstrapExit; remedy: string }>;

export type FailureCode = keyof typeof FAILURES;

/** Whether a text from the wire is one of our codes. */
export function isFailureCode(text: string): text is FailureCode {
  return Object.hasOwn(FAILURES, text);
}

/** One line of cause, one of remedy. Carries no secret: the message may be printed and logged. */
export class BootstrapError extends Error {
  override readonly name = "BootstrapError";
  readonly code: FailureCode;
  readonly exitCode: BootstrapExit;
  /** What to do about it, as a sentence. */
  readonly remedy: string;

  constructor(code: FailureCode, message: string, options?: { cause?: unknown; remedy?: string }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.exitCode = FAILURES[code].exit;
    this.remedy = options?.remedy ?? FAILURES[code].remedy;
  }
}
