import { existsSync, readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  BootstrapError,
  backoffMs,
  decodeJoinString,
  type Log,
  realScheduler,
  type Scheduler,
} from "../bootstrap/control/index.ts";
import { readMachineId } from "../bootstrap/host/index.ts";
import {
  type Enrolment,
  enrol,
  exportKey,
  generateKey,
  importKey,
  loadMembership,
  type StoredMembership,
  saveMembership,
} from "../bootstrap/identity/index.ts";
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

/** The key of a host that waits for approval, beside the membership that it does not have yet. */
const JOIN_KEY = "join-key.pem";
// Often enough for somebody who waits beside the screen, seldom enough for the enroller's limit per source.
const ASK_AGAIN = { minMs: 3000, maxMs: 60_000 } as const;

/** How a host waits for an administrator. */
export interface Waiting {
  readonly scheduler?: Scheduler;
  /** Called each time that the answer was to wait. */
  readonly waits?: (why: string) => void;
}

/**
 * What this host is in the mesh: from the last time, or by joining with the string in `identity.joinFile`, which is
 * removed once it is spent. A string that does not work takes nothing away from a host that has joined before.
 * @throws CommandError with cause and remedy, if there is no membership; the join file stays unless it has been spent.
 */
export async function membership(config: Config, store: Store, log: Log, waiting: Waiting = {}): Promise<Joined> {
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
    // A host that is a member already does not stand still for an answer: it asks again with its next start.
    const patience = stored === undefined ? waiting : undefined;
    return { member: await joinWith(line, joinFile, config, store, log, patience), problem: undefined, pending: false };
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
  waiting: Waiting | undefined,
): Promise<StoredMembership> {
  const enrolment = await enrolPatiently(line, config, store, log, waiting);
  const joined: StoredMembership = {
    identity: enrolment.identity,
    configuration: enrolment.configuration,
    enrollers: enrolment.enrollers,
  };
  saveMembership(store, joined);
  store.remove(JOIN_KEY);
  remove(joinFile, log);
  log.info({ workload: `${joined.configuration.workload.namespace}/${joined.configuration.workload.name}` }, "joined");
  if (Math.abs(enrolment.skewMs) > 300_000)
    log.warn({ skewMs: enrolment.skewMs }, "this host's clock differs from the enroller's by more than 5 minutes");
  return joined;
}

/**
 * Enrols, and goes on asking while an administrator has not decided about this host. The key is kept meanwhile: with it
 * the same host is known again, also after a restart, and spends no other use.
 */
async function enrolPatiently(
  line: string,
  config: Config,
  store: Store,
  log: Log,
  waiting: Waiting | undefined,
): Promise<Enrolment> {
  const { scheduler = realScheduler, waits = () => {} } = waiting ?? {};
  const key = importKey(store.read(JOIN_KEY)?.toString() ?? "") ?? generateKey();
  for (let asked = 1; ; asked++) {
    try {
      return await enrol({
        join: decodeJoinString(line),
        machine: readMachineId(config["identity.machineIdFile"]),
        hostname: hostname(),
        version: VERSION,
        wallMs: () => scheduler.wallMs(),
        key,
      });
    } catch (error) {
      if (!(error instanceof BootstrapError)) throw error;
      const pending = error.code === "approval-pending";
      // On the way to an answer, an enroller that is away for a while changes nothing.
      const transient = asked > 1 && TRANSIENT.has(error.exitCode as ExitCode);
      if (!pending && !transient) {
        if (!TRANSIENT.has(error.exitCode as ExitCode)) store.remove(JOIN_KEY);
        throw error;
      }
      if (pending && asked === 1) {
        store.write(JOIN_KEY, exportKey(key), 0o600);
        log.info({ why: error.message, remedy: error.remedy }, "waiting for approval");
      }
      if (waiting === undefined) throw error;
      waits(error.message);
      const pauseMs = backoffMs(asked, ASK_AGAIN, () => scheduler.rng());
      // The process lives on its listeners, if on nothing else.
      await new Promise<void>((resolve) => void scheduler.after(pauseMs, resolve));
    }
  }
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
