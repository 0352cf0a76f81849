import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import {
  affected,
  apply,
  explain,
  InterceptionError,
  type InterceptionOptions,
  leave,
  OptionsError,
  type Plan,
  parseOptions,
  plan,
  readHostFacts,
  readLiveConnections,
  remove,
  runProgram,
  verify,
} from "../../bootstrap/interception/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { type Format, print } from "./output.ts";

// Some thousand networks; more is not a configuration.
const MOST_BYTES = 256 * 1024;

/** What the operator typed after `intercept plan` and the like. */
export interface InterceptOptions {
  readonly config: string;
  readonly output: Format;
  readonly repair?: boolean;
}

const actions: Readonly<Record<string, (options: InterceptOptions) => Promise<void>>> = {
  plan: showPlan,
  apply: applyPlan,
  verify: verifyPlan,
  leave: leavePlan,
  remove: removePlan,
};

async function showPlan(options: InterceptOptions): Promise<void> {
  const made = await makePlan(options);
  const live = affected(made, readLiveConnections());
  done(options, { explanation: explain(made), affected: live, ruleset: made.ruleset, routing: routingCommands(made) }, [
    ...explain(made),
    "",
    live.length === 0
      ? "No connection that is open now would have been captured."
      : "Open now and left alone; opened again, these would be captured:",
    ...live.map(({ direction, local, remote, uid }) =>
      direction === "outbound" ? `  ${local} -> ${remote} (uid ${uid})` : `  ${local} <- ${remote}`,
    ),
    "",
    "# routing, made first and undone last",
    ...routingCommands(made),
    "",
    "# nft --file -",
    made.ruleset.trimEnd(),
  ]);
}

async function applyPlan(options: InterceptOptions): Promise<void> {
  requireRoot();
  const made = await makePlan(options);
  await apply(made, runProgram);
  done(options, { applied: true }, explain(made));
}

async function verifyPlan(options: InterceptOptions): Promise<void> {
  requireRoot();
  const made = await makePlan(options);
  const findings = await verify(made, runProgram);
  const repaired = options.repair === true && findings.length > 0;
  if (repaired) await apply(made, runProgram);
  done(
    options,
    { findings, repaired },
    findings.length === 0 ? ["As planned."] : findings.map(({ what, detail }) => `${what}: ${detail}`),
  );
  if (findings.length > 0 && !repaired) {
    throw new CommandError(
      EXIT.interception,
      `${findings.length} of the rules differ from the plan`,
      "mesh-agent intercept verify --repair",
    );
  }
}

async function leavePlan(options: InterceptOptions): Promise<void> {
  requireRoot();
  await leaveRules(options.config);
  done(options, { leaving: true }, ["No new connection is captured."]);
}

/** `intercept leave` without a word. @throws CommandError. */
export function leaveRules(config: string): Promise<void> {
  return explained(async () => leave(await makePlan({ config }), runProgram));
}

/** `intercept remove` without a word. @throws CommandError. */
export function removeRules(config: string): Promise<void> {
  return explained(async () => {
    // Undoing must work without the file, too: after a purge, or with one that no longer parses.
    const routing = readOptions(config, true)?.routing ?? parseOptions({ format: 1, agent: { uid: 1 } }).routing;
    await remove(routing, runProgram);
  });
}

async function removePlan(options: InterceptOptions): Promise<void> {
  requireRoot();
  await removeRules(options.config);
  done(options, { removed: true }, ["Removed: table inet mesh_agent, routing rules and routes."]);
}

async function makePlan({ config }: Pick<InterceptOptions, "config">): Promise<Plan> {
  const options = readOptions(config, false);
  if (options === undefined) {
    throw new CommandError(EXIT.configuration, `${config} does not exist`, "join a mesh first: mesh-agent up mj1.…");
  }
  return plan(options, await readHostFacts(options, runProgram));
}

/**
 * Reads the file without following a link in its last place. The directory belongs to the agent, so what is in the
 * file may name no other uid than its owner's as the exempt one, unless the owner is root.
 */
function readOptions(path: string, lenient: boolean): InterceptionOptions | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || lenient) return undefined;
    throw new CommandError(EXIT.configuration, `${path}: ${(error as Error).message}`, "run this command as root");
  }
  try {
    const { uid, size } = fstatSync(fd);
    if (size > MOST_BYTES) throw new OptionsError("file", `is larger than ${MOST_BYTES} bytes`);
    // JSON is YAML: one parser for the agent's file and a hand-written one.
    const options = parseOptions(parse(readFileSync(fd, "utf8")));
    if (uid !== 0 && options.agent.uid !== uid) throw new OptionsError("agent.uid", `must be the file's owner, ${uid}`);
    return options;
  } catch (error) {
    if (lenient) return undefined;
    throw new CommandError(
      EXIT.configuration,
      `${path}: ${(error as Error).message}`,
      "see docs/reference.md for the keys",
    );
  } finally {
    closeSync(fd);
  }
}

function routingCommands({ routing }: Plan): string[] {
  return routing.map(({ family, kind, words }) => `ip -${family} ${kind} add ${words.join(" ")}`);
}

function requireRoot(): void {
  if (process.geteuid?.() !== 0) {
    throw new CommandError(EXIT.notPermitted, "changing or reading the rules needs root", "run this command with sudo");
  }
}

function done(options: InterceptOptions, json: object, text: readonly string[]): void {
  print(options.output, json, () => `${text.join("\n")}\n`);
}

/** Runs one of {@link actions} and turns what interception reports into an exit status. */
export function runAction(name: string, options: InterceptOptions): Promise<void> {
  return explained(async () => actions[name]?.(options));
}

async function explained(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof InterceptionError)) throw error;
    const status = error.problem === "not-permitted" ? EXIT.notPermitted : EXIT.interception;
    throw new CommandError(status, error.message, error.remedy);
  }
}
