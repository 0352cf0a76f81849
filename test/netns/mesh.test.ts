/**
 * The whole product in the lab: a pod and VMs with the real agent, a real enroller, other people's clients, a wiretap.
 * One mesh serves all parts, in this order; each part is a file of `mesh/`.
 */
import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { labs } from "./mesh/labs.ts";
import { policy } from "./mesh/policy.ts";
import { refusals } from "./mesh/refusals.ts";
import { MeshSite } from "./mesh/site.ts";
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

describe("authorization", () => policy(site));

describe("bad input", () => refusals(site));

// Meanwhile the enroller grows old enough to take silence for death.
describe("another lab", () => labs(site));

describe("a VM that", () => {
  death(site);
  leaving(site);
});
