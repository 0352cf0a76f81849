/**
 * The whole product in the lab: a pod and VMs with the real agent, a real enroller, other people's clients, a wiretap.
 * One mesh serves all parts, in this order; each part is a file of `mesh/`.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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
});

// P18; the lab runs from source, so types are stripped on the way.
const COLD_MS = 1500;

describe("a VM", () => {
  it("joins, and its agent is ready in no time", async () => {
    const tookMs = await site().joinVm();
    console.log(`cold start, exec to ready, enrolment included: ${tookMs} ms`);
    expect(tookMs).toBeLessThan(COLD_MS);
  });

  registered(site);
});

describe("traffic", () => traffic(site));

describe("a VM that", () => {
  death(site);
  leaving(site);
});
