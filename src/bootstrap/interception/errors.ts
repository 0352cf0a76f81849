import type { Outcome } from "./run.ts";

/** What stood in the way of the rules; the code is stable, for `doctor` and the reference. */
export type InterceptionProblem =
  /** Not root, or without CAP_NET_ADMIN. */
  | "not-permitted"
  | "nft-missing"
  | "nft-too-old"
  | "ip-missing"
  /** The kernel refused an expression of the ruleset. */
  | "kernel-feature"
  /** Somebody else uses our table, priority or mark. */
  | "conflict"
  /** A program failed for another reason. */
  | "failed";

/** Interception could not be planned, applied, verified or removed; the host is as it was. */
export class InterceptionError extends Error {
  override readonly name = "InterceptionError";
  readonly problem: InterceptionProblem;
  /** What the operator can do, as a sentence without the first capital. */
  readonly remedy: string;

  constructor(problem: InterceptionProblem, message: string, remedy: string) {
    super(message);
    this.problem = problem;
    this.remedy = remedy;
  }
}

/** What a failed program means for the operator. */
export function explainFailure(program: string, { code, stderr }: Outcome): InterceptionError {
  const said = stderr.trim().split("\n")[0] ?? "";
  if (code === 127) {
    return program === "nft"
      ? new InterceptionError("nft-missing", "the program nft is not installed", "install the package nftables")
      : new InterceptionError("ip-missing", "the program ip is not installed", "install the package iproute2");
  }
  if (/Operation not permitted|must be root/i.test(stderr)) {
    return new InterceptionError("not-permitted", `${program} may not change the network`, "run this command as root");
  }
  // nft reports an expression the kernel lacks as a file that does not exist, or as an operation it does not support.
  if (program === "nft" && /No such file or directory|Operation not supported|Protocol/.test(stderr)) {
    return new InterceptionError(
      "kernel-feature",
      `the kernel refused a rule: ${said}`,
      "use a kernel 5.10 or later with nf_tables, nft_tproxy, nft_ct, nft_fib_inet, nft_reject_inet and nft_socket",
    );
  }
  return new InterceptionError(
    "failed",
    `${program}: ${said || `exit status ${code}`}`,
    "see `mesh-agent intercept plan`",
  );
}
