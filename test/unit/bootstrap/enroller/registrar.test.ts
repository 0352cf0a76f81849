import { beforeEach, describe, expect, it } from "vitest";
import { silentLog } from "../../../../src/bootstrap/control/index.ts";
import {
  ENDPOINT_SLICES,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  KubeError,
  readyCondition,
} from "../../../../src/bootstrap/enroller/index.ts";
import { planRegistration, withCertificate } from "../../../../src/bootstrap/enroller/plan.ts";
import { Registrar, type Wish } from "../../../../src/bootstrap/enroller/registrar.ts";
import { FakeScheduler, settle } from "../../../support/fake-scheduler.ts";
import { MemoryKube } from "../../../support/memory-kube.ts";
import { testTerms } from "../../../support/mesh-kube.ts";

const registration = planRegistration(testTerms(), "0123456789", "ab".repeat(32), "key1", true);
const { namespace, name } = registration.workload;
const UP: Wish = { readiness: { ready: true, reason: "Attached", message: "" }, addresses: ["192.0.2.1"] };
const DOWN: Wish = { readiness: { ready: false, reason: "HostUnreachable", message: "" }, addresses: undefined };

let kube: MemoryKube;
let time: FakeScheduler;
let registrar: Registrar;

beforeEach(async () => {
  kube = new MemoryKube();
  time = new FakeScheduler();
  registrar = new Registrar({
    client: kube,
    scheduler: time,
    log: silentLog,
    mesh: { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" },
    settleMinMs: 1000,
    settleMaxMs: 10_000,
  });
  await registrar.register(registration.workload, () => registration);
});

const object = () => kube.get<ExternalWorkload>(EXTERNAL_WORKLOADS, namespace, name);
const ready = async () => readyCondition((await object()) as ExternalWorkload)?.status;
const address = async () => (await object())?.spec?.workloadIPs?.[0]?.ip;

/** What Linkerd's controller would write. */
async function slice(isReady: boolean): Promise<void> {
  await kube.apply(
    ENDPOINT_SLICES,
    namespace,
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "linkerd-external-app-x" },
      endpoints: [
        { addresses: ["192.0.2.1"], conditions: { ready: isReady }, targetRef: { kind: "ExternalWorkload", name } },
      ],
    } as never,
    "test",
  );
}

async function bringUp(): Promise<void> {
  registrar.wish(namespace, name, UP);
  await time.pass(200);
  expect(await ready()).toBe("True");
  kube.writes.length = 0;
}

describe("the registrar", () => {
  it("creates a workload that is not Ready", async () => {
    expect(await ready()).toBe("False");
  });

  it("writes nothing when nothing changes", async () => {
    await bringUp();
    registrar.wish(namespace, name, UP);
    await time.pass(200);
    expect(kube.writes).toEqual([]);
  });

  it("changes an address only after readiness was withdrawn and clients let go", async () => {
    await bringUp();
    await slice(true);
    kube.writes.length = 0;
    registrar.wish(namespace, name, { ...UP, addresses: ["192.0.2.2"] });
    await time.pass(3000);
    expect(await ready()).toBe("False");
    expect(await address()).toBe("192.0.2.1");
    await slice(false);
    await time.pass(2000);
    expect(await address()).toBe("192.0.2.2");
    expect(await ready()).toBe("True");
    expect(kube.writes.filter((write) => !write.includes("endpointslices"))).toEqual([
      `apply externalworkloads/status ${namespace}/${name}`,
      `apply externalworkloads ${namespace}/${name}`,
      `apply externalworkloads/status ${namespace}/${name}`,
    ]);
  });

  it("does not wait for ever for clients to let go before a change", async () => {
    await bringUp();
    await slice(true);
    registrar.wish(namespace, name, { ...UP, addresses: ["192.0.2.2"] });
    await time.pass(12_000);
    expect(await address()).toBe("192.0.2.2");
  });

  it("never deletes a workload that is Ready or still offered", async () => {
    await bringUp();
    await slice(true);
    registrar.wish(namespace, name, { ...DOWN, finish: "delete" });
    await time.pass(15_000);
    expect(await object()).toBeDefined();
    expect(await ready()).toBe("False");
    await slice(false);
    await time.pass(10_000);
    expect(await object()).toBeUndefined();
    const deletion = kube.writes.indexOf(`delete externalworkloads ${namespace}/${name}`);
    expect(deletion).toBeGreaterThan(kube.writes.indexOf(`apply externalworkloads/status ${namespace}/${name}`));
  });

  it("tries again while the API server fails, and reaches the newest wish only", async () => {
    await bringUp();
    kube.fault = (call) => (call.includes("status") ? new KubeError(503, "Unavailable", "slow") : undefined);
    const reached: string[] = [];
    registrar.wish(namespace, name, DOWN, (state) => reached.push(state.reason));
    await time.pass(3000);
    expect(await ready()).toBe("True");
    registrar.wish(namespace, name, { ...DOWN, readiness: { ready: false, reason: "Left", message: "" } }, (state) =>
      reached.push(state.reason),
    );
    kube.fault = undefined;
    await time.pass(6000);
    expect(reached).toEqual(["Left"]);
    expect(await ready()).toBe("False");
  });

  it("asks a slow API server one thing at a time, however often a host changes its mind", async () => {
    await bringUp();
    const calls: string[] = [];
    let underWay = 0;
    let most = 0;
    kube.delay = async (call) => {
      calls.push(call);
      most = Math.max(most, ++underWay);
      await new Promise<void>((resolve) => void time.after(3000, resolve));
      underWay--;
    };
    for (let change = 0; change < 120; change++) {
      registrar.wish(namespace, name, change % 2 === 0 ? DOWN : UP);
      await time.pass(500);
    }
    registrar.wish(namespace, name, { ...UP, addresses: ["192.0.2.2"] });
    await time.pass(60_000, 500);
    kube.delay = undefined;
    expect(most).toBe(1);
    // A minute of it holds twenty answers, not the hundred and twenty that were wished for.
    expect(calls.length).toBeLessThan(45);
    expect(calls.filter((call) => call.startsWith("delete"))).toEqual([]);
    expect([await ready(), await address()]).toEqual(["True", "192.0.2.2"]);
  });

  it("is never Ready without an address, nor once revoked", async () => {
    registrar.wish(namespace, name, { ...UP, addresses: [] });
    await time.pass(200);
    expect(readyCondition((await object()) as ExternalWorkload)?.reason).toBe("NoAddress");
    await registrar.register(registration.workload, (latest) => ({ ...(latest ?? registration), revoked: "stolen" }));
    registrar.wish(namespace, name, UP);
    await time.pass(200);
    expect(readyCondition((await object()) as ExternalWorkload)?.reason).toBe("Revoked");
  });

  it("loses neither of two changes that cross", async () => {
    await Promise.all([
      registrar.register(registration.workload, (latest) => withCertificate(latest ?? registration, "key2", 0)),
      registrar.register(registration.workload, (latest) => ({
        ...(latest ?? registration),
        labels: { crossed: "yes" },
      })),
    ]);
    const { annotations, labels } = ((await object()) as ExternalWorkload).metadata;
    expect(annotations?.["mesh-agent/keys"]).toBe("key2,key1");
    expect(labels?.["crossed"]).toBe("yes");
  });

  it("leaves alone what somebody else keeps under that name", async () => {
    const foreign = {
      apiVersion: "workload.linkerd.io/v1beta1",
      kind: "ExternalWorkload",
      metadata: { name: "other" },
    };
    await kube.create(EXTERNAL_WORKLOADS, namespace, foreign);
    kube.writes.length = 0;
    registrar.wish(namespace, "other", UP);
    await settle();
    expect(kube.writes).toEqual([]);
  });
});
