import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { ask } from "./control-client.ts";
import { INTERCEPTION_PLAN } from "./intercept.ts";
import { runAction } from "./intercept-actions.ts";

const UNITS = [
  "mesh-agent.service",
  "mesh-agent-intercept.path",
  "mesh-agent-inbound.socket",
  "mesh-agent-outbound.socket",
  "mesh-agent-admin.socket",
  "mesh-agent-control.socket",
];

/**
 * Undoes `up` in reverse: no new connections are captured, the cluster lets go of the host, what is open finishes, the
 * units stop, the rules go. Rules and units need root and systemd; without them only the agent leaves.
 */
export async function down(socket: string): Promise<void> {
  const say = (result: string) => process.stdout.write(`${result}\n`);
  const hasUnits = process.getuid?.() === 0 && existsSync("/run/systemd/system") && existsSync(INTERCEPTION_PLAN);
  if (hasUnits) await runAction("leave", { config: INTERCEPTION_PLAN, output: "text" });
  await ask(socket, "POST", "/leave");
  say("Left the mesh: not Ready, drained, the workload deleted.");
  if (!hasUnits) return;
  execFileSync("systemctl", ["disable", "--now", ...UNITS], { stdio: ["ignore", "ignore", "pipe"], timeout: 150_000 });
  say("Stopped and disabled the units.");
  await runAction("remove", { config: INTERCEPTION_PLAN, output: "text" });
}
