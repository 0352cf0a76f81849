/** A VM that reaches nothing of the cluster but the enroller's port. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadKubeClient } from "../../src/bootstrap/enroller/kubernetes-client.ts";
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  readyCondition,
} from "../../src/bootstrap/enroller/resources.ts";
import { PORTS } from "../../src/lab/control-plane.ts";
import type { Host } from "../../src/lab/netns.ts";
import { addPod, inviteVm, SAMPLE } from "../../src/lab/sample.ts";
import { Lab } from "../../src/lab/up.ts";
import { until } from "../support/until.ts";

const VMS = ["vm-1"] as const;
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

beforeAll(async () => {
  lab = await Lab.start();
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
