import { describe, expect, it } from "vitest";
import { EndpointSet, type Slot } from "../../../../src/proxy/balance/index.ts";
import { type Endpoint, plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import { seededRng } from "../../../support/rng.ts";

const LOAD = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 } as const;

/** Which endpoint each of 4,000 requests goes to, all answered at once. */
function shares(endpoints: readonly Partial<Endpoint>[], weighted: boolean): number[] {
  const set: EndpointSet<undefined> = new EndpointSet<undefined>(
    { added: (slot) => set.setConnected(slot, true), removed: () => {} },
    LOAD,
    undefined,
    weighted,
  );
  const rng = seededRng(3);
  set.reset(
    endpoints.map((each, i) => ({ ...plainEndpoint({ ip: `10.0.0.${i + 1}`, port: 80 }), ...each })),
    0,
  );
  const counts = endpoints.map(() => 0);
  for (let i = 0; i < 4_000; i++) {
    const slot = set.pick(rng, 0) as Slot<undefined>;
    const at = Number(slot.endpoint.address.ip.split(".")[3]) - 1;
    counts[at] = (counts[at] as number) + 1;
    set.dispatched(slot);
    set.measured(slot, 0, 0);
  }
  return counts.map((count) => count / 4_000);
}

describe("weights of endpoints", () => {
  it("make one of three times the size the busier one", () => {
    const [small = 0, large = 0, small2 = 0] = shares([{}, { weight: 30_000 }, {}], true);
    expect(large).toBeGreaterThan(0.5);
    expect(small + small2).toBeGreaterThan(0.05);
  });

  it("count for nothing when they are switched off", () => {
    for (const share of shares([{}, { weight: 30_000 }, {}], false)) expect(share).toBeCloseTo(1 / 3, 1);
  });

  it("may change while an endpoint serves", () => {
    const set: EndpointSet<undefined> = new EndpointSet<undefined>(
      { added: (slot) => set.setConnected(slot, true), removed: () => {} },
      LOAD,
      undefined,
      true,
    );
    const [a, b] = [1, 2].map((n) => plainEndpoint({ ip: `10.0.0.${n}`, port: 80 })) as [Endpoint, Endpoint];
    set.reset([{ ...a, weight: 90_000 }, b], 0);
    set.change([{ ...a, weight: 0 }], [], 0);
    const rng = seededRng(3);
    let other = 0;
    for (let i = 0; i < 100; i++) if (set.pick(rng, 0)?.endpoint.key === b.key) other++;
    expect(other).toBeGreaterThan(95);
    // With one weight for all it counts for nothing again, and both are drawn.
    set.change([a], [], 0);
    other = 0;
    for (let i = 0; i < 100; i++) if (set.pick(rng, 0)?.endpoint.key === b.key) other++;
    expect(other).toBeGreaterThan(20);
    expect(other).toBeLessThan(80);
  });

  it("of nought are drawn only for want of others", () => {
    const [, nought = 1] = shares([{}, { weight: 0 }, {}], true);
    expect(nought).toBeLessThan(0.01);
    expect(shares([{ weight: 0 }], true)).toEqual([1]);
  });
});

describe("zones of endpoints", () => {
  it("prefer the near ones while they are no busier", () => {
    const [near = 0, ...far] = shares([{ zoneLocality: "local" }, { zoneLocality: "remote" }, {}, {}], true);
    expect(near).toBeGreaterThan(0.6);
    for (const share of far) expect(share).toBeGreaterThan(0);
  });

  it("yield to load", () => {
    const set: EndpointSet<undefined> = new EndpointSet<undefined>(
      { added: (slot) => set.setConnected(slot, true), removed: () => {} },
      LOAD,
      undefined,
      true,
    );
    set.reset(
      [
        { ...plainEndpoint({ ip: "10.0.0.1", port: 80 }), zoneLocality: "local" },
        plainEndpoint({ ip: "10.0.0.2", port: 80 }),
      ],
      0,
    );
    const [near] = [...set.slots()];
    for (let i = 0; i < 5; i++) set.dispatched(near as Slot<undefined>);
    expect(set.pick(seededRng(1), 0)?.endpoint.address.ip).toBe("10.0.0.2");
  });
});
