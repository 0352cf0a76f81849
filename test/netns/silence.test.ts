/**
 * Four VMs with real agents, each in a namespace of its own on one bridge: what becomes of their endpoints when hosts lose
 * their power, or fall silent. Seen in the cluster's objects and by the proxy of a pod that calls them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadKubeClient } from "../../src/bootstrap/enroller/kubernetes-client.ts";
import { LIVENESS } from "../../src/bootstrap/enroller/liveness.ts";
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  readyCondition,
} from "../../src/bootstrap/enroller/resources.ts";
import { addPod, inviteVm, SAMPLE } from "../../src/lab/sample.ts";
import { plainEnvironment, selfCommand } from "../../src/lab/self.ts";
import { Lab } from "../../src/lab/up.ts";
import { until } from "../support/until.ts";

const VMS = ["vm-1", "vm-2", "vm-3", "vm-4"] as const;
// Ten seconds of silence, one sweep, one write, the slice, and a slow machine.
const GONE_WITHIN_MS = 15_000;
// The guard's time is five minutes: as long by hand, long enough to tell it from no guard in the suite.
const HELD_FOR_MS = process.env["SOAK"] === undefined ? 20_000 : LIVENESS.holdMs - 15_000;

let lab: Lab;
let enrollerSince = 0;
const stops: (() => void)[] = [];

/** What the cluster last said of each VM, and everything that it has said since {@link forget}. */
const states = new Map<string, string>();
const said: { readonly vm: string; readonly state: string; readonly at: number }[] = [];
/** Addresses that callers of the Service are sent to. */
const offered = new Map<string, readonly string[]>();

beforeAll(async () => {
  lab = await Lab.start();
  enrollerSince = performance.now();
  await addPod(lab);
  const client = loadKubeClient({ kubeconfig: lab.kubeconfig });
  stops.push(
    client.watch<ExternalWorkload>(EXTERNAL_WORKLOADS, SAMPLE.namespace, (event) => {
      if (event.type === "SYNCED") return;
      const vm = nameByIp(event.object.spec?.workloadIPs?.[0]?.ip);
      if (vm === undefined) return;
      const { status, reason } = readyCondition(event.object) ?? {};
      const state = event.type === "DELETED" ? "deleted" : `${status} ${reason}`;
      states.set(vm, state);
      said.push({ vm, state, at: performance.now() });
    }),
    client.watch<EndpointSlice>(ENDPOINT_SLICES, SAMPLE.namespace, (event) => {
      if (event.type === "SYNCED") return;
      const { metadata, endpoints } = event.object;
      const ready = event.type === "DELETED" ? [] : (endpoints ?? []).filter(({ conditions }) => conditions?.ready);
      const ips = ready.flatMap(({ addresses }) => addresses ?? []);
      offered.set(metadata.name, ips);
    }),
  );
  for (const name of VMS) await lab.addVm(name, [{ kind: "http", port: SAMPLE.port }]);
  for (const name of VMS) await lab.join(name, (await inviteVm(lab)).join);
  await until(() => all("True Attached") && everywhere().length === VMS.length, "four VMs in service", 60_000);
}, 240_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab?.stop();
}, 60_000);

function nameByIp(ip: string | undefined): string | undefined {
  return VMS.find((vm) => lab.network.hosts.get(vm)?.ip === ip);
}

/** VMs that callers of the Service are sent to. */
function everywhere(): readonly string[] {
  const ips = [...offered.values()].flat();
  return VMS.filter((vm) => ips.includes(lab.host(vm).ip));
}

function all(state: string, of: readonly string[] = VMS): boolean {
  return of.every((vm) => states.get(vm) === state);
}

/** How many endpoints of the VMs' Service the pod's proxy knows. A call first: it forgets what nobody uses. */
async function known(): Promise<number> {
  const url = `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/`;
  await lab.exec(SAMPLE.pod, "curl", ["-sS", "--max-time", "3", url]);
  const { stdout } = await lab.exec(SAMPLE.pod, "curl", ["-s", "http://127.0.0.1:4191/metrics"]);
  const line = stdout
    .split("\n")
    .find((text) => text.includes("_p2c_endpoints{") && text.includes(`backend_name="${SAMPLE.group}"`));
  return Number(line?.split(" ").at(-1));
}

/** A young enroller does not take silence for death yet. */
async function enrollerGrown(): Promise<void> {
  await sleep(Math.max(0, enrollerSince + LIVENESS.graceMs - performance.now()));
}

it("one of four that loses its power is out of the endpoints within 15 s, the others stay", async () => {
  await enrollerGrown();
  await until(async () => (await known()) === VMS.length, "four endpoints at the pod's proxy", 20_000);
  const victim = lab.agent("vm-1");
  const { pid } = victim;
  if (pid === undefined) throw new Error("the agent does not run");
  said.length = 0;

  // In this order nobody hears of its end.
  const began = performance.now();
  await lab.network.unplug("vm-1");
  process.kill(pid, "SIGKILL");
  await victim.ended();
  await until(() => states.get("vm-1") === "False HostUnreachable", "not Ready", GONE_WITHIN_MS);
  const notReadyMs = performance.now() - began;
  await until(() => !everywhere().includes("vm-1"), "out of the slices", GONE_WITHIN_MS - notReadyMs);
  const outMs = performance.now() - began;
  expect(outMs).toBeLessThan(GONE_WITHIN_MS);
  expect(everywhere()).toEqual(VMS.slice(1));
  await until(async () => (await known()) === VMS.length - 1, "gone from the pod's proxy", 5_000);
  const unknownMs = performance.now() - began;
  console.log(
    `power off for one of four: not Ready after ${notReadyMs.toFixed(0)} ms, out of the slices after ${outMs.toFixed(0)} ms, ` +
      `seen to be gone at the pod's proxy after ${unknownMs.toFixed(0)} ms`,
  );
  expect(said.filter(({ vm }) => vm !== "vm-1")).toEqual([]);

  await lab.network.plug("vm-1");
  await victim.start();
  await until(() => all("True Attached") && everywhere().length === VMS.length, "back in service", 60_000);
});

it("three of four that fall silent at once stay endpoints for the guard's time, and that is said", {
  timeout: HELD_FOR_MS + 180_000,
}, async () => {
  const three = VMS.slice(0, 3);
  said.length = 0;
  const began = performance.now();
  for (const vm of three) await lab.network.unplug(vm);
  await until(() => all("True SilenceHeld", three), "held", 30_000);
  const heldMs = performance.now() - began;
  await sleep(HELD_FOR_MS - heldMs);
  console.log(
    `three of four silent: held after ${heldMs.toFixed(0)} ms, in service after ${(performance.now() - began).toFixed(0)} ms`,
  );
  expect(said.filter(({ state }) => !state.startsWith("True"))).toEqual([]);
  expect(states.get("vm-4")).toBe("True Attached");
  expect(everywhere()).toEqual(VMS);

  if (process.env["SOAK"] !== undefined) {
    await until(() => all("False HostUnreachable", three), "judged after the guard's time", 60_000);
    console.log(`judged after ${(performance.now() - began).toFixed(0)} ms`);
    await until(() => everywhere().join() === "vm-4", "out of the slices", 5_000);
  }
  for (const vm of three) await lab.network.plug(vm);
  const plugged = performance.now();
  await until(() => all("True Attached") && everywhere().length === VMS.length, "heard again", 60_000);
  console.log(`heard again ${(performance.now() - plugged).toFixed(0)} ms after their cables were back`);
});

it("two of two that fall silent at once are out within 15 s: so few are not guarded", async () => {
  for (const vm of ["vm-3", "vm-4"]) {
    const { socket, host } = lab.agent(vm);
    const [program, ...args] = selfCommand("down", "--socket", socket);
    const { code, stderr } = await host.exec(program, args, { env: plainEnvironment(), timeoutMs: 60_000 });
    expect(stderr).toBe("");
    expect(code).toBe(0);
  }
  await until(() => all("deleted", ["vm-3", "vm-4"]), "two have left", 30_000);
  const both = VMS.slice(0, 2);
  expect(everywhere()).toEqual(both);

  const began = performance.now();
  for (const vm of both) await lab.network.unplug(vm);
  await until(() => all("False HostUnreachable", both), "not Ready", GONE_WITHIN_MS);
  await until(() => everywhere().length === 0, "out of the slices", GONE_WITHIN_MS - (performance.now() - began));
  console.log(`two of two silent: out of the slices after ${(performance.now() - began).toFixed(0)} ms`);
});
