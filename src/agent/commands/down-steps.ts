import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { unwire } from "../../bootstrap/resolver/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { ask } from "./control-client.ts";
import { INTERCEPTION_PLAN } from "./intercept.ts";
import { leaveRules, removeRules } from "./intercept-actions.ts";
import { HOST } from "./names-actions.ts";
import type { Format } from "./output.ts";
import { Steps } from "./steps.ts";
import { PATHS, SERVICE, SOCKETS } from "./units.ts";

// A connection that comes while the agent starts makes systemd start it again, and cancel the stop.
const STOP_ATTEMPTS = 3;

/**
 * Undoes `up` in reverse: no new connections are captured, the cluster lets go of the host, what is open finishes, the
 * units stop, names and rules go. Rules and units need root and systemd; without them only the agent leaves.
 * @throws CommandError of the step that failed; what comes after it is left as it was, and the same command goes on there.
 */
export async function down(socket: string, output: Format): Promise<void> {
  const steps = new Steps(output, (_, result) => result);
  await steps.run(() => left(socket, steps));
}

async function left(socket: string, steps: Steps): Promise<void> {
  const hasUnits = process.getuid?.() === 0 && existsSync("/run/systemd/system") && existsSync(INTERCEPTION_PLAN);
  if (hasUnits) {
    steps.begin("interception");
    await leaveRules(INTERCEPTION_PLAN);
    steps.say("No new connection is captured.");
  }
  steps.begin("mesh");
  steps.say(await leaveMesh(socket, hasUnits));
  if (hasUnits) {
    steps.begin("units");
    stopUnits();
    steps.say("Stopped and disabled the units.");
    steps.begin("names");
    await unwire(HOST);
    steps.say("The host's resolver is as it was before.");
    steps.begin("rules");
    await removeRules(INTERCEPTION_PLAN);
    steps.say("Removed: table inet mesh_agent, routing rules and routes.");
  }
}

/** @param goOn - There is more to undo than the agent, also on a host where it does not run. */
async function leaveMesh(socket: string, goOn: boolean): Promise<string> {
  try {
    await ask(socket, "POST", "/leave");
    return "Left the mesh: not Ready, drained, the workload deleted.";
  } catch (error) {
    if (!goOn || !(error instanceof CommandError) || error.exitCode !== EXIT.unreachable) throw error;
    return "The agent did not run: the workload stays until the cluster has missed it for long enough.";
  }
}

function stopUnits(attempt = 1): void {
  try {
    execFileSync("systemctl", ["disable", "--now", ...PATHS, ...SOCKETS, SERVICE], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 150_000,
    });
  } catch (error) {
    const said = String((error as { stderr?: Buffer }).stderr ?? "").trim();
    if (said.includes("canceled") && attempt < STOP_ATTEMPTS) return stopUnits(attempt + 1);
    throw new CommandError(
      EXIT.failure,
      `the units did not stop: ${said.split("\n").at(-1) ?? ""}`,
      `journalctl -u ${SERVICE} -n 20 tells why`,
    );
  }
}
