import { loadKubeClient } from "../../bootstrap/enroller/kubernetes-client.ts";
import { addPod, addVm, inviteVm, SAMPLE } from "../sample.ts";
import { Lab } from "../up.ts";
import { CALLS, type CallPlan, load } from "./calls.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type Golden, goldenMetrics } from "./golden.ts";
import type { Progress } from "./progress.ts";
import { renderCall, renderGolden, renderTransitions } from "./render.ts";
import type { Call, DemoReport } from "./report.ts";
import type { Style } from "./style.ts";
import { Tap } from "./tap.ts";
import { WorkloadDiary } from "./watch-workload.ts";

const READY_MS = 30_000;

export interface DemoOptions {
  /** How long traffic flows for the golden metrics, in seconds. */
  readonly seconds: number;
  readonly progress: Progress;
  readonly style: Style;
  /** For people; with JSON it says nothing. */
  readonly print: (text: string) => void;
  /** Hears of the lab as soon as there is one, to take it down whatever happens. */
  readonly onLab: (lab: Lab) => void;
}

/** A mesh in a minute: what happens when a VM joins, who calls whom, how it went. The lab stays up. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { progress, print, style, seconds } = options;
  const heading = (text: string) => {
    progress.done();
    print(`\n${style.bold(text)}\n\n`);
  };

  heading("A cluster on this machine");
  const lab = await Lab.start({ progress: (step) => progress.begin(step) });
  options.onLab(lab);
  await addPod(lab);
  await addVm(lab);

  heading("A VM joins the mesh");
  const { command, join } = await inviteVm(lab);
  print(`  ${style.name("admin $")} ${style.bold(command.join(" "))}\n    ${short(join)}\n`);
  print(`  ${style.name(`${SAMPLE.vm} $`)} ${style.bold("mesh-agent run")}\n`);
  print(`    ${style.dim("with the join string in identity.joinFile; where there is systemd: mesh-agent up mj1.…")}\n`);
  const diary = new WorkloadDiary(loadKubeClient({ kubeconfig: lab.kubeconfig }), SAMPLE.namespace);
  await lab.join(SAMPLE.vm, join);
  const ready = await diary.ready(READY_MS);
  diary.close();
  progress.done();
  print(`\n${renderTransitions(diary.transitions, style)}`);
  if (!ready) throw new Error("the ExternalWorkload did not become Ready");
  lab.publish();

  heading("Calls in both directions, through unmodified curl");
  const taps = new Map<string, Tap>();
  for (const name of [SAMPLE.pod, SAMPLE.vm]) taps.set(name, await Tap.open(lab.agent(name).socket));
  const calls: Call[] = [];
  for (const plan of CALLS) {
    const call = await makeCall(lab, taps.get(plan.host), plan);
    calls.push(call);
    print(renderCall(call, style));
  }
  for (const tap of taps.values()) tap.close();

  heading(`Golden metrics of the last ${seconds} s`);
  progress.begin(`sending requests both ways for ${seconds} s`);
  const golden = await measure(lab, seconds);
  progress.done();
  print(`\n${renderGolden(golden, style)}`);
  print(
    `\n  ${style.dim("From the agents' own metrics: same names and labels as linkerd2-proxy's. Every tenth request asks for a 500.")}\n`,
  );
  return { workload: diary.transitions, calls, goldenSeconds: seconds, golden };
}

async function makeCall(lab: Lab, tap: Tap | undefined, plan: CallPlan): Promise<Call> {
  let output = "";
  const act = async () => {
    const { stdout, stderr } = await lab.exec(plan.host, "sh", ["-c", plan.command]);
    output = stdout || stderr;
  };
  let request: Call["request"];
  if (plan.http && tap !== undefined) request = await tap.during(act);
  else await act();
  return { host: plan.host, command: plan.command, answer: plan.answer(output), request };
}

async function measure(lab: Lab, seconds: number): Promise<Golden[]> {
  const ways = [
    { name: SAMPLE.pod, load: load(SAMPLE.pod, SAMPLE.group, seconds) },
    { name: SAMPLE.vm, load: load(SAMPLE.vm, SAMPLE.pod, seconds) },
  ];
  const read = () => Promise.all(ways.map(({ name }) => metricsOf(lab, name)));
  const before = await read();
  const since = performance.now();
  const timeoutMs = seconds * 1_000 + 10_000;
  await Promise.all(ways.map((way) => lab.exec(way.load.host, "sh", ["-c", way.load.command], timeoutMs)));
  const took = (performance.now() - since) / 1_000;
  const after = await read();
  return ways.flatMap(({ name }, index) => goldenMetrics(name, before[index] ?? [], after[index] ?? [], took));
}

async function metricsOf(lab: Lab, host: string): Promise<Sample[]> {
  const { stdout } = await lab.exec(host, "curl", ["-s", "http://127.0.0.1:4191/metrics"]);
  return parseExposition(stdout);
}

/** A join string is long, and its secret nobody's business. */
function short(join: string): string {
  return `${join.slice(0, 20)}…`;
}
