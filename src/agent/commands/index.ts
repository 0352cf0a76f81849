import type { Command } from "commander";
import * as cluster from "./cluster.ts";
import * as completion from "./completion.ts";
import * as config from "./config.ts";
import * as demo from "./demo.ts";
import * as down from "./down.ts";
import * as enroller from "./enroller.ts";
import * as intercept from "./intercept.ts";
import * as invitations from "./invitations.ts";
import * as invite from "./invite.ts";
import * as lab from "./lab.ts";
import * as names from "./names.ts";
import * as reload from "./reload.ts";
import * as run from "./run.ts";
import * as status from "./status.ts";
import * as tap from "./tap.ts";
import * as up from "./up.ts";

/** One subcommand: says its options at once, loads what it needs only when it runs. */
export interface CommandModule {
  register(program: Command): void;
}

/** Every subcommand, one file each. Heavy imports stay inside the actions, so that `--help` is quick. */
export const commands: readonly CommandModule[] = [
  cluster,
  completion,
  config,
  demo,
  down,
  enroller,
  intercept,
  invitations,
  invite,
  lab,
  names,
  reload,
  run,
  status,
  tap,
  up,
];
