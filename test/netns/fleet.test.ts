/** Four VMs with the real agent in the lab: one that reaches nothing but the enroller's port, one that loses its power. */
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
import { revokeHost } from "../../src/bootstrap/enroller/revoke.ts";
import { CLUSTER_DOMAIN, LINKERD, PORTS } from "../../src/lab/control-plane.ts";
import type { Host } from "../../src/lab/netns.ts";
import { addPod, inviteVm, SAMPLE } from "../../src/lab/sample.ts";
import { Lab } from "../../src/lab/up.ts";
import { until } from "../support/until.ts";

const GONE_WITHIN_MS = 15_000;
const VMS = ["vm-1", "vm-2", "vm-3", "vm-4"] as const;
/** It lets out nothing but connections to the enroller's port, and lets in what answers them. */
const wall = (enroller: string) => `table inet wall {
  chain out {
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    ip daddr ${enroller} tcp dport 4145 accept
  }
}`;
let lab: Lab;
let enrollerSince = 0;

beforeAll(async () => {
  lab = await Lab.start();
  enrollerSince = performance.now();
  await addPod(lab);
  for (const name of VMS) await lab.addVm(name, [{ kind: "http", port: SAMPLE.port }]);
}, 180_000);
afterAll(() => lab.stop(), 60_000);

const client = () => loadKubeClient({ kubeconfig: lab.kubeconfig });
const nft = async (host: Host, rules: string) =>
  expect(await host.exec("nft", ["-f", "-"], { input: rules })).toMatchObject({ code: 0 });

function nameOf(vm: string): string {
  return lab.hosts.find(({ name }) => name === vm)?.workload?.split("/")[1] ?? "";
}

async function readiness(vm: string): Promise<string> {
  const object = await client().get<ExternalWorkload>(EXTERNAL_WORKLOADS, SAMPLE.namespace, nameOf(vm));
  const condition = object && readyCondition(object);
  return `${condition?.status} ${condition?.reason}`;
}

/** VMs that callers of the Service are sent to. */
async function offered(): Promise<readonly string[]> {
  const slices = await client().list<EndpointSlice>(ENDPOINT_SLICES, SAMPLE.namespace);
  const names = slices
    .flatMap(({ endpoints }) => endpoints ?? [])
    .filter(({ conditions, targetRef }) => targetRef?.kind === "ExternalWorkload" && conditions?.ready !== false)
    .map(({ targetRef }) => targetRef?.name);
  return VMS.filter((vm) => nameOf(vm) !== "" && names.includes(nameOf(vm)));
}

it("a VM that reaches nothing but port 4145 of the enroller joins, discovers and is registered", {
  timeout: 180_000,
}, async () => {
  const vm = lab.host("vm-1");
  const control = lab.network.address(0, 10);
  await nft(vm, wall(lab.network.address(0, 11)));
  const dial = `require("node:net").connect({port: ${PORTS.destination}, host: "${control}", timeout: 1500}).on("connect", () => process.exit(0)).on("timeout", () => process.exit(3)).on("error", () => process.exit(3))`;
  expect((await vm.exec(process.execPath, ["-e", dial])).code).toBe(3);
  const agent = await lab.join("vm-1", (await inviteVm(lab)).join);
  await until(async () => (await readiness("vm-1")) === "True Attached", "Ready", 60_000);
  const entries = await until(
    async () => {
      const known = (await agent.status())?.discovery ?? [];
      return known.some(({ key, connected }) => key === `inbound ${SAMPLE.port}` && connected) && known;
    },
    "its policy, from the controller",
    60_000,
  );
  expect(entries.find(({ key }) => key === `inbound ${SAMPLE.port}`)).toMatchObject({ state: "ready" });
  await until(async () => (await offered()).includes("vm-1"), "an endpoint of the Service", 30_000);
});

it("the power of one of four is missed within 15 s", {
  timeout: 300_000,
}, async () => {
  for (const name of VMS.slice(1)) await lab.join(name, (await inviteVm(lab)).join);
  await until(async () => (await offered()).length === 4, "four endpoints", 120_000);
  // A young enroller does not take silence for death yet: that is another rule's test.
  await sleep(Math.max(0, enrollerSince + LIVENESS.graceMs + 5_000 - performance.now()));

  const host = lab.host("vm-4");
  const { pid } = lab.agent("vm-4");
  const down =
    "for i in $(ip -o link | sed -n 's/^[0-9]*: \\([^:@]*\\).*/\\1/p'); do [ $i = lo ] || ip link set $i down; done";
  const began = performance.now();
  expect((await host.exec("sh", ["-c", down])).code).toBe(0);
  process.kill(pid as number, "SIGKILL");
  await until(async () => !(await offered()).includes("vm-4"), "out of the Service", GONE_WITHIN_MS + 5_000);
  const tookMs = performance.now() - began;
  console.log(`without power: out of the Service after ${Math.round(tookMs)} ms`);
  expect(tookMs).toBeLessThan(GONE_WITHIN_MS);
  expect(await offered()).toEqual(["vm-1", "vm-2", "vm-3"]);
});

it("the VM behind the wall hears that it was revoked", { timeout: 60_000 }, async () => {
  const agent = lab.agent("vm-1");
  const mesh = { controlPlaneNamespace: LINKERD, trustDomain: CLUSTER_DOMAIN };
  await revokeHost(client(), mesh, { namespace: SAMPLE.namespace, name: nameOf("vm-1") }, "lost");
  await agent.ended();
  expect(await readiness("vm-1")).toBe("False Revoked");
});
