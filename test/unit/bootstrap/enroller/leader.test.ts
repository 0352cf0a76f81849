import { expect, it } from "vitest";
import { silentLog } from "../../../../src/bootstrap/control/index.ts";
import { KubeError, LEASES, type Lease } from "../../../../src/bootstrap/enroller/index.ts";
import { GROUPS_LEASE, Leader } from "../../../../src/bootstrap/enroller/leader.ts";
import { FakeScheduler } from "../../../support/fake-scheduler.ts";
import { MemoryKube } from "../../../support/memory-kube.ts";

const kube = () => new MemoryKube();
const replica = (client: MemoryKube, scheduler: FakeScheduler, name: string) =>
  new Leader({ client, scheduler, log: silentLog, namespace: "linkerd", replica: name });
const holder = async (client: MemoryKube) =>
  (await client.get<Lease>(LEASES, "linkerd", GROUPS_LEASE))?.spec?.holderIdentity;

it("is one of the replicas, and another one when that is gone", async () => {
  const [client, scheduler] = [kube(), new FakeScheduler()];
  const [a, b] = [replica(client, scheduler, "a"), replica(client, scheduler, "b")];
  a.start();
  await scheduler.pass(1);
  b.start();
  for (let i = 0; i < 20; i++) {
    await scheduler.pass(3000);
    expect([a.leads(), b.leads()]).toEqual([true, false]);
  }
  a.stop();
  await scheduler.pass(6000);
  expect([a.leads(), b.leads()]).toEqual([false, true]);
  expect(await holder(client)).toBe("b");
  b.stop();
});

it("never leads twice at once: who cannot renew stops before another one may begin", async () => {
  const [client, scheduler] = [kube(), new FakeScheduler()];
  const [a, b] = [replica(client, scheduler, "a"), replica(client, scheduler, "b")];
  a.start();
  await scheduler.pass(1);
  b.start();
  await scheduler.pass(10_000);
  // The API server hears b, and a no more.
  client.fault = (call) => {
    if (!a.leads()) return undefined;
    return call.startsWith("update") ? new KubeError(0, "Unreachable", "away") : undefined;
  };
  let changed = false;
  for (let i = 0; i < 60; i++) {
    await scheduler.pass(1000);
    expect(a.leads() && b.leads()).toBe(false);
    changed ||= b.leads();
  }
  expect(changed || a.leads()).toBe(true);
  a.stop();
  b.stop();
});

it("two that find an old lease at once: one of them", async () => {
  const [client, scheduler] = [kube(), new FakeScheduler()];
  const gone = { holderIdentity: "gone", leaseDurationSeconds: 15, renewTime: "2020-01-01T00:00:00.000000Z" };
  const metadata = { name: GROUPS_LEASE, namespace: "linkerd" };
  await client.create(LEASES, "linkerd", { apiVersion: "v1", kind: "Lease", metadata, spec: gone } as never);
  const both = ["a", "b"].map((name) => replica(client, scheduler, name));
  for (const each of both) each.start();
  await scheduler.pass(12_000);
  // However old it says it is: nobody has watched it for long enough.
  expect(both.map((each) => each.leads())).toEqual([false, false]);
  await scheduler.pass(10_000);
  expect(both.filter((each) => each.leads())).toHaveLength(1);
  for (const each of both) each.stop();
});
