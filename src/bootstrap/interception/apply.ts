import { explainFailure, InterceptionError } from "./errors.ts";
import { missingKernelFeature } from "./kernel.ts";
import type { InterceptionOptions } from "./model.ts";
import type { Plan } from "./plan.ts";
import type { RoutingObject } from "./routing.ts";
import { TABLE } from "./ruleset.ts";
import type { Outcome, Run } from "./run.ts";

/** The oldest nft whose grammar and messages are known to fit. */
const LEAST_NFT = [1, 0, 6] as const;
const MOST_RULES = 16;

/**
 * Brings the host to the plan: routing first, so that no packet is marked before the mark leads anywhere, then the
 * table in one transaction. Repeating it changes nothing and interrupts nothing.
 * @throws InterceptionError; what this call had added is taken back then.
 */
export async function apply(plan: Plan, run: Run): Promise<void> {
  await preflight(plan, run);
  const added: RoutingObject[] = [];
  try {
    for (const object of plan.routing) {
      if (await isPresent(object, run)) continue;
      await must(run, "ip", [`-${object.family}`, object.kind, "add", ...object.words]);
      added.push(object);
    }
    await load(plan.ruleset, run);
  } catch (error) {
    for (const object of added.reverse()) await removeOne(object, run);
    throw error;
  }
}

/** Captures nothing new from now on, but keeps what is captured until {@link remove}: for leaving without a loss. */
export async function leave(plan: Plan, run: Run): Promise<void> {
  if (await tableExists(run)) await load(plan.leaving, run);
}

/**
 * Takes everything back, table first. Connections that are captured at this moment lose their way: {@link leave} first
 * and let them end. Repeating it is harmless. Our routing table and priority are emptied whatever is in them, so that
 * what an older configuration put there goes too.
 * @throws InterceptionError if a program is missing or not permitted.
 */
export async function remove({ table, priority }: InterceptionOptions["routing"], run: Run): Promise<void> {
  if (await tableExists(run)) await must(run, "nft", ["delete", "table", ...TABLE.split(" ")]);
  for (const family of ["-4", "-6"]) {
    // One call deletes one rule; it fails when none is left. The bound is for the day it fails to fail.
    for (let rule = 0; rule < MOST_RULES; rule++) {
      const { code } = await run("ip", [family, "rule", "del", "lookup", String(table), "priority", String(priority)]);
      if (code !== 0) break;
    }
    await run("ip", [family, "route", "flush", "table", String(table)]);
  }
}

/** Whether one route or rule of the plan is there, exactly as planned. */
export async function isPresent(object: RoutingObject, run: Run): Promise<boolean> {
  const { table, priority } = keysOf(object);
  const { code, stdout } =
    object.kind === "route"
      ? await run("ip", [`-${object.family}`, "-json", "route", "show", "table", table])
      : await run("ip", [`-${object.family}`, "-json", "rule", "show", "priority", priority]);
  // `ip` fails for a table that has no route yet.
  if (code !== 0 || stdout.trim() === "") return false;
  const rows = JSON.parse(stdout) as Readonly<Record<string, unknown>>[];
  return rows.some((row) => matches(object, row));
}

/** Compares a row of `ip -json` with the words that made it. */
function matches(object: RoutingObject, row: Readonly<Record<string, unknown>>): boolean {
  const word = (name: string) => after(object.words, name);
  if (object.kind === "route") {
    const to = String(object.words[1]);
    const wanted = to === "0.0.0.0/0" || to === "::/0" ? "default" : to.replace(/\/\d+$/, "");
    return row["type"] === "local" && row["dev"] === "lo" && row["dst"] === wanted && row["prefsrc"] === word("src");
  }
  const [mark, mask] = (word("fwmark") ?? "").split("/");
  return (
    Number(row["fwmark"] ?? 0) === Number(mark) &&
    Number(row["fwmask"] ?? 0xffff_ffff) === Number(mask) &&
    String(row["table"]) === word("lookup") &&
    row["dst"] === word("to")?.replace(/\/\d+$/, "") &&
    (row["uid_start"] === undefined ? undefined : `${row["uid_start"]}-${row["uid_end"]}`) === word("uidrange")
  );
}

function keysOf({ words }: RoutingObject): { table: string; priority: string } {
  return { table: after(words, "table") ?? after(words, "lookup") ?? "", priority: after(words, "priority") ?? "" };
}

function after(words: readonly string[], name: string): string | undefined {
  const at = words.indexOf(name);
  return at < 0 ? undefined : words[at + 1];
}

async function removeOne({ family, kind, words }: RoutingObject, run: Run): Promise<void> {
  await run("ip", [`-${family}`, kind, "del", ...words]);
}

/** Whether our table is loaded. */
export async function tableExists(run: Run): Promise<boolean> {
  const outcome = await run("nft", ["list", "tables"]);
  if (outcome.code !== 0) throw explainFailure("nft", outcome);
  return outcome.stdout.split("\n").includes(`table ${TABLE}`);
}

/** Finds out, before anything is changed, whether the plan can be carried out here. */
async function preflight(plan: Plan, run: Run): Promise<void> {
  const version = await run("nft", ["--version"]);
  if (version.code !== 0) throw explainFailure("nft", version);
  const found = /v(\d+)\.(\d+)\.(\d+)/.exec(version.stdout)?.slice(1).map(Number);
  if (found === undefined || compare(found, LEAST_NFT) < 0) {
    throw new InterceptionError(
      "nft-too-old",
      `nft is ${version.stdout.trim() || "of unknown version"}`,
      `install nftables ${LEAST_NFT.join(".")} or later`,
    );
  }
  for (const family of plan.facts.families) await refuseForeign(plan, family, run);
  // Checks with the kernel, too, and commits nothing.
  const trial = await run("nft", ["--check", "--file", "-"], plan.ruleset);
  if (trial.code === 0) return;
  const failure = explainFailure("nft", trial);
  const missing = failure.problem === "kernel-feature" ? await missingKernelFeature(run) : undefined;
  if (missing === undefined) throw failure;
  throw new InterceptionError(
    "kernel-feature",
    `the kernel lacks ${missing.feature}`,
    `modprobe ${missing.module}, or boot a kernel that has it`,
  );
}

function compare(left: readonly number[], right: readonly number[]): number {
  for (const [index, value] of right.entries()) {
    const difference = (left[index] ?? 0) - value;
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Our routing table and our mark must be nobody else's; a rule that has both and our priority is ours, from before. */
async function refuseForeign(plan: Plan, family: 4 | 6, run: Run): Promise<void> {
  const { table, mark, priority } = plan.options.routing;
  const ours = plan.routing.filter((object) => object.family === family);
  const rules = await run("ip", [`-${family}`, "-json", "rule", "show"]);
  if (rules.code !== 0) throw explainFailure("ip", rules);
  for (const row of JSON.parse(rules.stdout || "[]") as Readonly<Record<string, unknown>>[]) {
    if (ours.some((object) => object.kind === "rule" && matches(object, row))) continue;
    if (String(row["table"]) === String(table) && row["priority"] === priority) continue;
    const usesMark = row["fwmark"] !== undefined && (Number(row["fwmask"] ?? 0xffff_ffff) & mark) !== 0;
    if (String(row["table"]) === String(table) || usesMark) {
      throw new InterceptionError(
        "conflict",
        `another program's routing rule uses ${usesMark ? `mark 0x${mark.toString(16)}` : `table ${table}`}: ${JSON.stringify(row)}`,
        "choose another interception.routing.mark or .table in the configuration",
      );
    }
  }
}

async function load(ruleset: string, run: Run): Promise<void> {
  await must(run, "nft", ["--file", "-"], ruleset);
}

async function must(run: Run, program: string, args: readonly string[], input?: string): Promise<Outcome> {
  const outcome = await run(program, args, input);
  if (outcome.code !== 0) throw explainFailure(program, outcome);
  return outcome;
}
