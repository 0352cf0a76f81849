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
