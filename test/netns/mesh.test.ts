/**
 * The whole product in the lab: a pod and VMs with the real agent, a real enroller, other people's clients, a wiretap.
 * One mesh serves all parts, in this order; each part is a file of `mesh/`.
 */
import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SAMPLE } from "../../src/lab/sample.ts";
import { labs } from "./mesh/labs.ts";
import { outage } from "./mesh/outage.ts";
import { policy } from "./mesh/policy.ts";
import { GROUP, HOST, refusals } from "./mesh/refusals.ts";
import { scrapes } from "./mesh/scrapes.ts";
import { MeshSite } from "./mesh/site.ts";
import { spiffe } from "./mesh/spiffe.ts";
import { traffic } from "./mesh/traffic.ts";
import { death, leaving, registered } from "./mesh/workload.ts";

let made: MeshSite | undefined;
const site = (): MeshSite => {
  if (made === undefined) throw new Error("there is no mesh");
  return made;
};

beforeAll(async () => {
  made = await MeshSite.create();
});
afterAll(async () => {
  await made?.remove();
  if (made !== undefined) {
    const { id } = made.lab;
    expect(readdirSync("/run/netns").filter((name) => name.startsWith(`ma-${id}-`))).toEqual([]);
    expect(existsSync(`/run/mesh-agent-labs/${id}`)).toBe(false);
  }
});

// The binary has 1.5 s; from source, see the warm start in `mesh/workload.ts`.
const COLD_MS = 6_000;

describe("a VM", () => {
  it("joins, and its agent is ready in no time", async () => {
    const tookMs = await site().joinVm();
    console.log(`cold start, exec to ready, enrolment included: ${tookMs} ms`);
    expect(tookMs).toBeLessThan(COLD_MS);
  });

  registered(site);
});

describe("traffic", () => traffic(site));

describe("scrapes", () => scrapes(site));

describe("authorization of a pod", () => policy(site, { host: SAMPLE.pod, account: SAMPLE.pod, subnet: 1 }));

describe("bad input", () => refusals(site));

const SPIFFE_ID = `spiffe://cluster.local/ns/${SAMPLE.namespace}/sa/${GROUP}`;
describe("authorization of another VM", () =>
  policy(site, { host: HOST, account: GROUP, subnet: 2, spiffeId: SPIFFE_ID }));

describe("without a control plane, a VM", () => outage(site));

describe("authorization of a workload with a SPIFFE ID only", () => spiffe(site));

// Meanwhile the enroller grows old enough to take silence for death.
describe("another lab", () => labs(site));

describe("a VM that", () => {
  death(site);
  leaving(site);
});
