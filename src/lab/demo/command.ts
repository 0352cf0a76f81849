import type { Format } from "../../agent/commands/output.ts";
import { CommandError, EXIT } from "../../agent/exit.ts";
import { SAMPLE } from "../sample.ts";
import type { Lab } from "../up.ts";
import { Progress, runDemo, styleFor } from "./index.ts";

const LONGEST_SECONDS = 600;

/** Runs the demo. On a terminal the lab stays until Ctrl-C; elsewhere, and with JSON, the command ends by itself. */
export async function demo(options: { readonly seconds: string; readonly output: Format }): Promise<void> {
  const seconds = Number(options.seconds);
  if (!(seconds >= 1 && seconds <= LONGEST_SECONDS)) {
    throw new CommandError(EXIT.usage, `${options.seconds} is no number of seconds`, `1 to ${LONGEST_SECONDS}`);
  }
  if (process.geteuid?.() !== 0) {
    throw new CommandError(
      EXIT.notPermitted,
      "the demo makes network namespaces, which needs root",
      "run this command with sudo",
    );
  }
  const json = options.output === "json";
  // JSON is for a program: progress and everything else for people goes to the other output.
  const out = json ? process.stderr : process.stdout;
  const isTerminal = out.isTTY === true;
  const style = styleFor(isTerminal, process.env["NO_COLOR"]);
  const progress = new Progress({ write: (text) => out.write(text), isTerminal, style });
  let lab: Lab | undefined;
  let interrupted = false;
  let wake = () => {};
  const woken = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const leave = () => {
    interrupted = true;
    wake();
  };
  const interrupt = () => {
    // Twice: now, without goodbyes.
    if (interrupted) {
      lab?.stopSync();
      process.exit(128 + 2);
    }
    leave();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, interrupt);
  // Who reads the output has gone, as with `demo | head`: the lab goes, too.
  out.on("error", leave);

  let failure: unknown;
  try {
    const story = runDemo({
      seconds,
      progress,
      style,
      print: (text) => {
        if (!json) out.write(text);
      },
      onLab: (started) => {
        lab = started;
      },
    });
    // What is left of the story fails once the lab is gone; nobody listens to it then.
    story.catch(() => {});
    const report = await Promise.race([story, woken]);
    if (report !== undefined && json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    if (report !== undefined && !json) {
      out.write(`\n${style.bold("Look around")}\n\n${furtherSteps(isTerminal, lab)}`);
      if (isTerminal && process.stdin.isTTY) await woken;
    }
  } catch (error) {
    failure = error;
    progress.failed();
  }
  if (interrupted) out.write("\n");
  progress.begin("taking everything down again");
  await lab?.stop();
  progress.done();
  if (failure !== undefined) {
    throw new CommandError(EXIT.failure, `the demo failed: ${failure instanceof Error ? failure.message : failure}`);
  }
  process.exit(interrupted ? 128 + 2 : EXIT.ok);
}

function furtherSteps(stays: boolean, lab: Lab | undefined): string {
  const self = "mesh-agent";
  const commands: [string, string][] = [
    [
      `${self} lab exec ${SAMPLE.vm} -- curl -s http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local`,
      "a call of your own",
    ],
    [
      `${self} lab exec ${SAMPLE.vm} -- ${self} status --socket ${lab?.agent(SAMPLE.vm).socket ?? "…"}`,
      "the VM's agent on one screen",
    ],
    [`${self} tap --socket ${lab?.agent(SAMPLE.vm).socket ?? "…"}`, "its requests as they happen"],
    [`kubectl --kubeconfig ${lab?.kubeconfig ?? "…"} get externalworkloads -A`, "what the cluster knows of it"],
  ];
  const lines = commands.map(([command, why]) => `  ${why}:\n    ${command}\n`).join("");
  return stays
    ? `${lines}\n  All of this works in a second terminal while this one waits. Ctrl-C takes it down.\n`
    : `  mesh-agent lab up keeps such a mesh running; then:\n${lines}`;
}
