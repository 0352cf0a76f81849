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

/**
 * What this host is in the mesh: from the last time, or by joining with the string in `identity.joinFile`, which is
 * removed once it is spent.
 * @throws CommandError with cause and remedy; the join file stays unless it has been spent.
 */
export async function membership(config: Config, store: Store, log: Log): Promise<StoredMembership> {
  const stored = loadMembership(store);
  // Under systemd root hands it over into the state directory before the agent starts.
  const joinFile = [join(config["state.directory"], "join"), config["identity.joinFile"]].find((file) =>
    existsSync(file),
  );
  const line = joinFile === undefined ? undefined : readJoinFile(joinFile);
  if (line === undefined) {
    if (stored !== undefined) return stored;
    throw new CommandError(
      EXIT.joinString,
      `this host has not joined a mesh, and there is no join string in ${config["identity.joinFile"]}`,
      "mesh-agent up mj1.…",
    );
  }
  try {
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
    if (joinFile !== undefined) rmSync(joinFile, { force: true });
    log.info(
      { workload: `${joined.configuration.workload.namespace}/${joined.configuration.workload.name}` },
      "joined",
    );
    if (Math.abs(enrolment.skewMs) > 300_000)
      log.warn({ skewMs: enrolment.skewMs }, "this host's clock differs from the enroller's by more than 5 minutes");
    return joined;
  } catch (error) {
    throw asCommandError(error);
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
