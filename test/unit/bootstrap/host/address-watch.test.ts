import { describe, expect, it } from "vitest";
import { AddressWatch } from "../../../../src/bootstrap/host/index.ts";
import { FakeScheduler } from "../../../support/fake-scheduler.ts";

function watch(options: { readonly configured?: readonly string[]; readonly own?: readonly string[] } = {}) {
  const scheduler = new FakeScheduler();
  const state = { source: "10.0.0.5" as string | undefined, changes: 0 };
  const made = new AddressWatch({
    configured: options.configured ?? [],
    enroller: () => "enroll.example.com:4145",
    scheduler,
    changed: () => state.changes++,
    sourceOf: () => Promise.resolve(state.source),
    own: () => options.own ?? ["10.0.0.5", "192.168.7.2", "fd00::7"],
  });
  return { made, scheduler, state };
}

describe("a host with several addresses", () => {
  it("is registered under the one that answers from the cluster come back to, and says why", async () => {
    const { made } = watch();
    await made.start();
    expect(made.addresses()).toEqual(["10.0.0.5"]);
    expect(made.why()).toBe("source of the route to the enroller enroll.example.com:4145, not 192.168.7.2, fd00::7");
  });

  it("is registered under a new one within ten seconds of the change", async () => {
    const { made, scheduler, state } = watch();
    await made.start();
    state.source = "192.168.7.2";
    await scheduler.pass(10_000, 1_000);
    expect(made.addresses()).toEqual(["192.168.7.2"]);
    expect(state.changes).toBe(2);
  });

  it("keeps its address while there is no route", async () => {
    const { made, scheduler, state } = watch();
    await made.start();
    state.source = undefined;
    await scheduler.pass(30_000, 1_000);
    expect(made.addresses()).toEqual(["10.0.0.5"]);
  });

  it("does what the operator says, IPv6 too", async () => {
    const { made } = watch({ configured: ["203.0.113.7", "2001:db8::7"] });
    await made.start();
    expect(made.addresses()).toEqual(["203.0.113.7", "2001:db8::7"]);
    expect(made.why()).toBe("set in workload.addresses");
  });
});

it("says so when something in between translates addresses", async () => {
  const { made } = watch();
  await made.start();
  made.observed("198.51.100.9");
  expect(made.addresses()).toEqual(["10.0.0.5"]);
  expect(made.why()).toContain("the enroller sees 198.51.100.9, which this host does not have");
  expect(made.why()).toContain("set workload.addresses");
  made.observed("10.0.0.5");
  expect(made.why()).not.toContain("sees");
});

it("does not wait for a slow resolver for more than two seconds", async () => {
  const scheduler = new FakeScheduler();
  const made = new AddressWatch({
    configured: [],
    enroller: () => "slow.example.com:4145",
    scheduler,
    changed: () => {},
    sourceOf: () => new Promise(() => {}),
    own: () => [],
  });
  const started = made.start();
  await scheduler.pass(2_000);
  await started;
  expect(made.addresses()).toEqual([]);
  expect(made.why()).toContain("it takes what it sees");
});
