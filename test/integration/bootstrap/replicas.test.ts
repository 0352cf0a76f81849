import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { decodeJoinString, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import {
  CONFIG_MAPS,
  type ConfigMap,
  KubeError,
  LEASES,
  type Lease,
  type RunningEnroller,
  readyCondition,
  startEnroller,
} from "../../../src/bootstrap/enroller/index.ts";
import { AttachClient, type AttachHandlers } from "../../../src/bootstrap/host/index.ts";
import { acceptAnchors, EnrolledIdentity, type Enrolment, enrol } from "../../../src/bootstrap/identity/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms, workloadOf } from "../../support/mesh-kube.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let ca: { root: TestPair; issuer: TestPair };
let kube: MemoryKube;
const stops: (() => unknown)[] = [];

beforeEach(async () => {
  ca = await testMeshCa();
  kube = new MemoryKube();
  await installMesh(kube, ca);
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function start(): Promise<{ readonly enroller: RunningEnroller; readonly address: string }> {
  const enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    heartbeatMs: 100,
    settleMs: { min: 20, max: 200 },
    captureNetworks: ["10.43.0.0/16"],
    liveness: { silenceMs: 1000, suspectMs: 700, partitionWindowMs: 1000, partitionMin: 3, graceMs: 0, holdMs: 60_000 },
  });
  stops.push(() => enroller.stop(0));
  return { enroller, address: `127.0.0.1:${enroller.address.port}` };
}

async function host(
  machineId: string,
  joinString: string,
  enrollers?: readonly string[],
  handlers: AttachHandlers = {},
) {
  const machine = createHash("sha256").update(machineId).digest("hex");
  const enrolment: Enrolment = await enrol({
    join: decodeJoinString(joinString),
    machine,
    hostname: machineId,
    version: "0.1.0",
    wallMs: Date.now,
  });
  const { workload } = enrolment.configuration;
  const identity = new EnrolledIdentity({
    identity: enrolment.identity,
    workload,
    mesh: enrolment.configuration,
    enrollers: () => enrolment.enrollers,
    machine,
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
    save: () => {},
  });
  const client = new AttachClient({
    workload,
    mesh: enrolment.configuration,
    enrollers: enrollers ?? enrolment.enrollers,
    identity,
    machine,
    hostname: machineId,
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
    addresses: () => ["192.0.2.10"],
    handlers: {
      trustAnchors: (roots) => {
        const anchors = acceptAnchors({ roots });
        if (anchors !== undefined) identity.setTrustAnchors(anchors);
      },
      ...handlers,
    },
    backoff: { minMs: 50, maxMs: 100 },
  });
  stops.push(
    () => client.stop(),
    () => identity.stop(),
  );
  client.start();
  client.setReadiness({ ready: true, reason: "", message: "" });
  const condition = async () => {
    const object = await workloadOf(kube, workload.name);
    return object && readyCondition(object);
  };
  const ready = async () => (await condition())?.status === "True";
  await until(ready, "Ready");
  return { client, identity, condition, ready, workload };
}

const holder = async (name: string) =>
  (await kube.get<Lease>(LEASES, "linkerd", `mesh-agent.shop.${name}`))?.spec?.holderIdentity;

describe("two replicas", () => {
  it("a process that has handed over does not attach again: it would end its successor's attachment", async () => {
    const [one, two] = [await start(), await start()];
    const text = await invite(kube, testTerms(), ca.root.certificatePem, one.address);
    const { client } = await host("vm-1", text, [one.address, two.address]);
    client.yieldTo(4711);
    expect(client.state.kind).toBe("attached");
    await one.enroller.stop(0);
    await until(() => client.state.kind !== "attached", "the stream has ended");
    expect(client.state.kind).toBe("ended");
  });

  it("hand a host over without its readiness ever being withdrawn", async () => {
    const one = await start();
    const two = await start();
    const joinString = await invite(kube, testTerms(), ca.root.certificatePem, one.address);
    const { client, ready, workload } = await host("vm", joinString, [one.address, two.address]);
    const first = await holder(workload.name);
    kube.writes.length = 0;
    await one.enroller.stop(0);
    await until(
      () => client.state.kind === "attached" && client.state.enroller === two.address,
      "attached to the other",
    );
    await until(async () => (await holder(workload.name)) !== first, "the lease moved");
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(await ready()).toBe(true);
    expect(kube.writes.filter((write) => write.includes("status"))).toEqual([]);
  });
});

describe("a host that flaps", () => {
  it("is written down at a bounded rate, and ends as it ended", async () => {
    const { address } = await start();
    const { client, condition } = await host("vm", await invite(kube, testTerms(), ca.root.certificatePem, address));
    kube.writes.length = 0;
    for (let i = 0; i < 200; i++) {
      client.setReadiness({ ready: i % 2 === 0, reason: i % 2 === 0 ? "" : "ProbeFailed", message: `try ${i}` });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await until(async () => (await condition())?.message === "try 199", "the last state");
    expect(kube.writes.filter((write) => write.includes("status")).length).toBeLessThan(12);
  });
});

describe("when most hosts fall silent together", () => {
  it("their readiness is held", async () => {
    const { address } = await start();
    const joinString = await invite(kube, testTerms({ uses: 3 }), ca.root.certificatePem, address);
    const hosts = [await host("a", joinString), await host("b", joinString), await host("c", joinString)];
    for (const { client } of hosts) client.stop();
    await new Promise((resolve) => setTimeout(resolve, 2500));
    for (const { condition } of hosts)
      expect(await condition()).toMatchObject({ status: "True", reason: "SilenceHeld" });
  });
});

describe("the cluster changes under a host", () => {
  it("new trust anchors reach it, and it goes on with both", async () => {
    const { address } = await start();
    const { identity, client } = await host("vm", await invite(kube, testTerms(), ca.root.certificatePem, address));
    const next = await testMeshCa();
    const roots = await kube.get<ConfigMap>(CONFIG_MAPS, "linkerd", "linkerd-identity-trust-roots");
    await kube.update(CONFIG_MAPS, "linkerd", {
      ...(roots as ConfigMap),
      data: { "ca-bundle.crt": ca.root.certificatePem + next.root.certificatePem },
    });
    await until(() => identity.current()?.trustAnchorsPem.length === 2, "anchors pushed");
    expect(identity.current()?.generation).toBeGreaterThan(1);
    expect(client.state.kind).toBe("attached");
    await identity.renewNow();
    expect(identity.current()?.trustAnchorsPem).toHaveLength(2);
  });

  it("a bundle that does not fit the issuer is not taken over", async () => {
    const { address } = await start();
    const { identity } = await host("vm", await invite(kube, testTerms(), ca.root.certificatePem, address));
    const roots = await kube.get<ConfigMap>(CONFIG_MAPS, "linkerd", "linkerd-identity-trust-roots");
    await kube.update(CONFIG_MAPS, "linkerd", {
      ...(roots as ConfigMap),
      data: { "ca-bundle.crt": (await testMeshCa()).root.certificatePem },
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await identity.renewNow();
    expect(identity.current()?.trustAnchorsPem).toEqual([ca.root.certificatePem]);
  });

  it("its workload deleted by an administrator ends its attachment", async () => {
    const { address } = await start();
    let refused: string | undefined;
    const handlers: AttachHandlers = { refused: (error) => (refused = error.code) };
    const { workload } = await host(
      "vm",
      await invite(kube, testTerms(), ca.root.certificatePem, address),
      undefined,
      handlers,
    );
    await kube.delete(
      { group: "workload.linkerd.io", version: "v1beta1", plural: "externalworkloads" },
      "shop",
      workload.name,
    );
    expect(await until(() => refused, "refused")).toBe("unknown-workload");
  });

  it("readiness overwritten by somebody else is put right", async () => {
    const { address } = await start();
    const { ready, workload } = await host("vm", await invite(kube, testTerms(), ca.root.certificatePem, address));
    const object = await workloadOf(kube, workload.name);
    await kube.apply(
      { group: "workload.linkerd.io", version: "v1beta1", plural: "externalworkloads" },
      "shop",
      { ...object, status: { conditions: [{ type: "Ready", status: "False" }] } } as never,
      "somebody",
      "status",
    );
    await until(ready, "Ready again");
  });

  it("an API server that refuses for a while delays readiness, and breaks nothing", async () => {
    const { address } = await start();
    const { client, condition } = await host("vm", await invite(kube, testTerms(), ca.root.certificatePem, address));
    kube.fault = (call) => (call.startsWith("apply") ? new KubeError(403, "Forbidden", "no") : undefined);
    client.setReadiness({ ready: false, reason: "ProbeFailed", message: "down" });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await condition())?.status).toBe("True");
    kube.fault = undefined;
    await until(async () => (await condition())?.reason === "ProbeFailed", "written at last");
    expect(client.state.kind).toBe("attached");
  });
});
