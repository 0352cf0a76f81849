import { describe, expect, it } from "vitest";
import {
  type EjectionConfig,
  EndpointSet,
  type LoadEstimate,
  PenaltyPeakEwma,
  type Slot,
} from "../../../../src/proxy/balance/index.ts";
import { type Endpoint, plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";

const LOAD: LoadEstimate = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 };
const endpoint = (n: number, more: Partial<Endpoint> = {}): Endpoint => ({
  ...plainEndpoint({ ip: `10.0.0.${n}`, port: 80 }),
  ...more,
});

function make(options: { ejection?: EjectionConfig; connect?: boolean; load?: LoadEstimate } = {}) {
  const log: string[] = [];
  const slots = new Map<string, Slot<string>>();
  const set: EndpointSet<string> = new EndpointSet<string>(
    {
      added: (slot) => {
        log.push(`+${slot.endpoint.address.ip}`);
        slots.set(slot.endpoint.key, slot);
        if (options.connect !== false) set.setConnected(slot, true);
      },
      removed: (slot) => log.push(`-${slot.endpoint.address.ip}`),
    },
    options.load ?? LOAD,
    options.ejection,
  );
  const slot = (n: number) => slots.get(`10.0.0.${n}:80`) as Slot<string>;
  return { set, log, slot };
}

describe("endpoint set", () => {
  it("takes differences", () => {
    const { set, log } = make();
    set.change([endpoint(1), endpoint(2)], [], 0);
    set.change([endpoint(3)], ["10.0.0.1:80", "unknown"], 0);
    expect(log).toEqual(["+10.0.0.1", "+10.0.0.2", "-10.0.0.1", "+10.0.0.3"]);
    expect([set.size, set.readyCount]).toEqual([2, 2]);
  });

  it("takes a whole set, touching only what differs", () => {
    const { set, log, slot } = make();
    set.reset([endpoint(1), endpoint(2)], 0);
    const kept = slot(1);
    set.dispatched(kept);
    log.length = 0;
    set.reset([endpoint(1), endpoint(3)], 0);
    expect(log).toEqual(["+10.0.0.3", "-10.0.0.2"]);
    expect([...set.slots()][0]).toBe(kept);
    expect(kept.load.pending).toBe(1);
  });

  it("takes another weight without losing what is known", () => {
    const { set, log, slot } = make();
    set.reset([endpoint(1), endpoint(2)], 0);
    const kept = slot(1);
    set.dispatched(kept);
    log.length = 0;
    set.change([endpoint(1, { weight: 30_000 })], [], 0);
    expect(log).toEqual([]);
    expect([kept.removed, kept.load.pending, kept.share, kept.capacity]).toEqual([false, 1, 30_000, 30_000]);
    expect(slot(1)).toBe(kept);
  });

  it("makes an endpoint anew whose metadata changed, and marks the old one", () => {
    const { set, slot } = make();
    set.reset([endpoint(1)], 0);
    const old = slot(1);
    set.dispatched(old);
    set.measured(old, 0, 500);
    set.change([endpoint(1, { labels: { pod: "b" } })], [], 500);
    expect(old.removed).toBe(true);
    expect(slot(1)).not.toBe(old);
    expect(slot(1).load.load(500)).toBe(30);
    expect(set.readyCount).toBe(1);
  });

  it("does not make a removed endpoint ready again", () => {
    const { set, slot } = make({ connect: false });
    set.reset([endpoint(1)], 0);
    const gone = slot(1);
    set.reset([], 0);
    set.setConnected(gone, true);
    expect([set.readyCount, set.pick(() => 0, 0)]).toEqual([0, undefined]);
  });

  it("picks only among the connected", () => {
    const { set, slot } = make({ connect: false });
    set.reset([endpoint(1), endpoint(2)], 0);
    expect(set.pick(() => 0, 0)).toBeUndefined();
    set.setConnected(slot(2), true);
    expect(set.pick(() => 0.9, 0)).toBe(slot(2));
    set.setConnected(slot(2), false);
    expect(set.pick(() => 0.9, 0)).toBeUndefined();
  });

  it("picks the less loaded of two", () => {
    const { set, slot } = make();
    set.reset([endpoint(1), endpoint(2)], 0);
    set.dispatched(slot(1));
    expect(set.pick(() => 0, 0)).toBe(slot(2));
    expect(set.pick(() => 0.99, 0)).toBe(slot(2));
    set.dispatched(slot(2));
    expect(set.pick(() => 0, 0)).toBe(slot(1));
    expect(set.pick(() => 0.99, 0)).toBe(slot(2));
  });

  it("records penalties where the estimate knows them", () => {
    const penalty = make({ load: { ...LOAD, kind: "penalty-peak-ewma" } });
    penalty.set.reset([endpoint(1)], 0);
    expect(penalty.slot(1).load).toBeInstanceOf(PenaltyPeakEwma);
    penalty.set.dispatched(penalty.slot(1));
    penalty.set.measured(penalty.slot(1), 0, 1, 5_000);
    expect(penalty.slot(1).load.load(1)).toBe(5_000);
    const plain = make();
    plain.set.reset([endpoint(1)], 0);
    plain.set.dispatched(plain.slot(1));
    plain.set.measured(plain.slot(1), 0, 1, 5_000);
    expect(plain.slot(1).load.load(1)).toBeLessThan(31);
  });

  describe("with a breaker", () => {
    const ejection: EjectionConfig = {
      kind: "consecutive",
      maxFailures: 2,
      backoff: { minMs: 1_000, maxMs: 8_000, jitter: 0 },
    };
    const fail = (set: EndpointSet<string>, slot: Slot<string>, now: number) => {
      set.dispatched(slot);
      set.measured(slot, now, now);
      set.classified(slot, "failure", now, () => 0);
    };

    it("ejects, probes once, and takes back", () => {
      const { set, slot } = make({ ejection });
      set.reset([endpoint(1), endpoint(2)], 0);
      fail(set, slot(1), 0);
      fail(set, slot(1), 0);
      expect([set.readyCount, set.timeoutAt()]).toEqual([1, 1_000]);
      for (let i = 0; i < 10; i++) expect(set.pick(() => i / 10, 500)).toBe(slot(2));
      set.setConnected(slot(2), false);
      expect(set.pick(() => 0, 999)).toBeUndefined();
      const probe = set.pick(() => 0, 1_000) as Slot<string>;
      expect(probe).toBe(slot(1));
      expect(set.timeoutAt()).toBeUndefined();
      set.dispatched(probe);
      expect(set.pick(() => 0, 1_000)).toBeUndefined();
      set.measured(probe, 1_000, 1_001);
      set.classified(probe, "success", 1_001, () => 0);
      expect(set.pick(() => 0, 1_001)).toBe(probe);
    });

    it("wakes for the earliest of several", () => {
      const { set, slot } = make({ ejection });
      set.reset([endpoint(1), endpoint(2)], 0);
      for (const now of [0, 0]) fail(set, slot(1), now);
      for (const now of [300, 300]) fail(set, slot(2), now);
      expect(set.timeoutAt()).toBe(1_000);
      set.expire(1_000);
      expect([set.readyCount, set.timeoutAt()]).toEqual([1, 1_300]);
      set.expire(1_300);
      expect([set.readyCount, set.timeoutAt()]).toEqual([2, undefined]);
    });

    it("forgets an ejected endpoint that is removed", () => {
      const { set, slot } = make({ ejection });
      set.reset([endpoint(1)], 0);
      for (const now of [0, 0]) fail(set, slot(1), now);
      set.reset([], 0);
      set.expire(1_000);
      expect([set.readyCount, set.timeoutAt()]).toEqual([0, undefined]);
    });

    it("starts clean when the metadata changes", () => {
      const { set, slot } = make({ ejection });
      set.reset([endpoint(1)], 0);
      for (const now of [0, 0]) fail(set, slot(1), now);
      set.reset([endpoint(1, { zone: "b" })], 0);
      expect(set.pick(() => 0, 0)).toBe(slot(1));
    });
  });
});
