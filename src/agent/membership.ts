import { existsSync, readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { BootstrapError, decodeJoinString, type Log } from "../bootstrap/control/index.ts";
import { readMachineId } from "../bootstrap/host/index.ts";
import { enrol, loadMembership, type StoredMembership, saveMembership } from "../bootstrap/identity/index.ts";
import type { Config } from "./config.ts";
import { CommandError, EXIT, type ExitCode } from "./exit.ts";
import type { Store } from "./store.ts";
import { VERSION } from "./version.ts";

/** What this host is in the mesh, and what became of a join string that did not make it so. */
export interface Joined {
  readonly member: StoredMembership;
  /** Why a join string was not used, although there is one; the membership is the one from before. */
  readonly problem: string | undefined;
  /** The string is kept: trying again may help. */
  readonly pending: boolean;
}

// What another attempt may change: nobody answered, or not now.
const TRANSIENT: ReadonlySet<ExitCode> = new Set([EXIT.unreachable, EXIT.tryAgain]);

/**
 * What this host is in the mesh: from the last time, or by joining with the string in `identity.joinFile`, which is
 * removed once it is spent. A string that does not work takes nothing away from a host that has joined before.
 * @throws CommandError with cause and remedy, if there is no membership; the join file stays unless it has been spent.
 */
export async function membership(config: Config, store: Store, log: Log): Promise<Joined> {
  const stored = loadMembership(store);
  // Under systemd root hands it over into the state directory before the agent starts.
  const joinFile = [join(config["state.directory"], "join"), config["identity.joinFile"]].find((file) =>
    existsSync(file),
  );
  const line = joinFile === undefined ? undefined : readJoinFile(joinFile);
  if (joinFile === undefined || line === undefined) {
    if (stored !== undefined) return { member: stored, problem: undefined, pending: false };
    throw new CommandError(
      EXIT.joinString,
      `this host has not joined a mesh, and there is no join string in ${config["identity.joinFile"]}`,
      "mesh-agent up mj1.…",
    );
  }
  try {
    return { member: await joinWith(line, joinFile, config, store, log), problem: undefined, pending: false };
  } catch (error) {
    const failure = asCommandError(error);
    if (stored === undefined || !(failure instanceof CommandError)) throw failure;
    const pending = TRANSIENT.has(failure.exitCode);
    // Tried at every start, a string that cannot work would only hide the one that can.
    if (!pending) remove(joinFile, log);
    const { message, remedy = "" } = failure;
    log.error({ error: message, remedy }, "could not join again; this host stays what it was");
    return { member: stored, problem: failure.message, pending };
  }
}

async function joinWith(
  line: string,
  joinFile: string,
  config: Config,
  store: Store,
  log: Log,
): Promise<StoredMembership> {
  const enrolment = await enrol({
    join: decodeJoinString(line),
    machine: readMachineId(config["identity.machineIdFile"]),
    hostname: hostname(),
    version: VERSION,
    wallMs: () => Date.now(),
  });
  const joined: StoredMembership = {
    identity: enrolment.identity,
    configuration: enrolment.configuration,
    enrollers: enrolment.enrollers,
  };
  saveMembership(store, joined);
  remove(joinFile, log);
  log.info({ workload: `${joined.configuration.workload.namespace}/${joined.configuration.workload.name}` }, "joined");
  if (Math.abs(enrolment.skewMs) > 300_000)
    log.warn({ skewMs: enrolment.skewMs }, "this host's clock differs from the enroller's by more than 5 minutes");
  return joined;
}

function remove(joinFile: string, log: Log): void {
  try {
    rmSync(joinFile, { force: true });
  } catch (error) {
    // Spent or useless, but somebody else's to remove.
    log.warn({ error: (error as Error).message }, "the join file cannot be removed");
  }
}

function readJoinFile(file: string): string | undefined {
  try {
    const line = readFileSync(file, "utf8").trim();
    return line === "" ? undefined : line;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new CommandError(
      EXIT.configuration,
      `${file}: ${(error as Error).message}`,
      "make it readable for the agent",
    );
  }
}

/** A failure of bootstrap as the end of a command. */
export function asCommandError(error: unknown): unknown {
  return error instanceof BootstrapError
    ? new CommandError(error.exitCode as ExitCode, error.message, error.remedy)
    : error;
}
