import { isPresent } from "./apply.ts";
import { InterceptionError } from "./errors.ts";
import type { Plan } from "./plan.ts";
import { TABLE } from "./ruleset.ts";
import type { Run } from "./run.ts";

/** Something that is not as planned. */
export interface Finding {
  readonly what: "table-missing" | "table-differs" | "route-missing" | "rule-missing";
  /** For people: the object, or the first line that differs. */
  readonly detail: string;
}

/**
 * Compares the host with the plan: the table line by line, the routing object by object. Needs root.
 *
 * What the table should look like is asked of nft itself: the plan is loaded into an empty network namespace that lives
 * for that one question. So it does not matter how this version of nft spells a rule.
 * @returns nothing if all is as planned.
 * @throws InterceptionError if `nft`, `ip` or `unshare` cannot be run.
 */
export async function verify(plan: Plan, run: Run): Promise<Finding[]> {
  const findings: Finding[] = [];
  const list = ["nft", "--numeric", "list", "table", ...TABLE.split(" ")];
  const expected = await run("unshare", ["--net", "sh", "-c", `nft --file - && exec ${list.join(" ")}`], plan.ruleset);
  if (expected.code !== 0) throw refused(expected.stderr);
  const actual = await run("nft", list.slice(1));
  if (actual.code !== 0) {
    if (/Operation not permitted/.test(actual.stderr)) throw refused(actual.stderr);
    findings.push({ what: "table-missing", detail: `table ${TABLE}` });
  } else {
    const difference = firstDifference(withoutLease(expected.stdout), withoutLease(actual.stdout));
    if (difference !== undefined) findings.push({ what: "table-differs", detail: difference });
  }
  for (const object of plan.routing) {
    if (await isPresent(object, run)) continue;
    findings.push({
      what: object.kind === "rule" ? "rule-missing" : "route-missing",
      detail: `ip -${object.family} ${object.kind} add ${object.words.join(" ")}`,
    });
  }
  return findings;
}

function refused(stderr: string): InterceptionError {
  return /Operation not permitted/.test(stderr)
    ? new InterceptionError("not-permitted", "the table may not be read", "run this command as root")
    : new InterceptionError("failed", stderr.trim().split("\n")[0] ?? "", "see `mesh-agent intercept plan`");
}

/** The lease's elements come and go with the agent; nothing else in the table changes by itself. */
function withoutLease(listing: string): string[] {
  return listing.replace(/(set lease \{[^}]*?)\n\s*elements = \{[^}]*\}/, "$1").split("\n");
}

function firstDifference(expected: readonly string[], actual: readonly string[]): string | undefined {
  const length = Math.max(expected.length, actual.length);
  for (let line = 0; line < length; line++) {
    if (expected[line] !== actual[line]) {
      return `expected: ${expected[line]?.trim() ?? "the end"}; found: ${actual[line]?.trim() ?? "the end"}`;
    }
  }
  return undefined;
}
