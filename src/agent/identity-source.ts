import type { Log, Scheduler } from "../bootstrap/control/index.ts";
import { FileIdentity, WorkloadApiIdentity } from "../bootstrap/identity/index.ts";
import type { IdentitySource } from "../proxy/core/identity.ts";
import type { Config } from "./config.ts";
import { asCommandError } from "./membership.ts";

/** An identity that somebody else renews, and that we follow. */
export interface FollowedIdentity {
  readonly source: IdentitySource;
  /** Why the last change could not be taken over; undefined if all is well. */
  problem(): string | undefined;
  stop(): void;
}

/**
 * Starts to follow the identity in files or at a SPIFFE Workload API. The first one from a Workload API comes later:
 * nothing is accepted before it.
 *
 * @param failed - A new one came that cannot be used; the old one stays.
 * @returns undefined where the identity comes from the enroller.
 * @throws CommandError (77) if the files do not make an identity.
 */
export function followIdentity(
  config: Config,
  scheduler: Scheduler,
  log: Log,
  failed: () => void,
): FollowedIdentity | undefined {
  const named = config["identity.serverName"] === "" ? {} : { serverName: config["identity.serverName"] };
  switch (config["identity.source"]) {
    case "enroller":
      return undefined;
    case "files": {
      const source = orCommandError(
        () => new FileIdentity({ directory: config["identity.directory"], scheduler, log, failed, ...named }),
      );
      source.start();
      return { source, problem: () => source.problem, stop: () => source.stop() };
    }
    case "spiffe": {
      const wanted = config["identity.spiffeId"] === "" ? {} : { spiffeId: config["identity.spiffeId"] };
      const socket = config["identity.spiffeSocket"].replace(/^unix:(?:\/\/)?/, "");
      const source = new WorkloadApiIdentity({ socket, scheduler, log, failed, ...named, ...wanted });
      source.start();
      return { source, problem: () => source.problem, stop: () => source.stop() };
    }
    default:
      return config["identity.source"] satisfies never;
  }
}

function orCommandError<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw asCommandError(error);
  }
}
