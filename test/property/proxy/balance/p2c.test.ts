import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EndpointSet, PeakEwma, pickOfTwo, type Slot } from "../../../../src/proxy/balance/index.ts";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import { seededRng } from "../../../support/rng.ts";

const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe("power of two choices", () => {
  it("compares two different candidates, and never takes the worst of three", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 40 }),
        unit,
        unit,
        (loads, a, b) => {
          const candidates = loads.map((pending) => {
            const load = new PeakEwma(30, 10_000, 0);
            load.pending = pending;
            return { load };
          });
          const draws = [a, b];
          const picked = pickOfTwo(candidates, () => draws.shift() ?? 0, 0);
          expect(candidates).toContain(picked);
          const worst = Math.max(...loads);
          const alone = loads.filter((load) => load === worst).length === 1;
          if (alone && loads.length > 1) expect(picked?.load.pending).not.toBe(worst);
        },
      ),
    );
  });

  it("holds only connected, present, admitted endpoints, whatever happens", () => {
    type Step = {
      readonly kind: "add" | "remove" | "connect" | "drop" | "request";
      readonly n: number;
      readonly ok: boolean;
    };
    const step: fc.Arbitrary<Step> = fc.record({
      kind: fc.constantFrom("add", "remove", "connect", "drop", "request"),
      n: fc.integer({ min: 1, max: 6 }),
      ok: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.integer(), (steps, seed) => {
        const rng = seededRng(seed);
        const slots = new Map<string, Slot<undefined>>();
        const set = new EndpointSet<undefined>(
          {
            added: (slot) => void slots.set(slot.endpoint.key, slot),
            removed: (slot) => {
              if (slots.get(slot.endpoint.key) === slot) slots.delete(slot.endpoint.key);
            },
          },
          { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 },
          { kind: "consecutive", maxFailures: 2, backoff: { minMs: 10, maxMs: 100, jitter: 0.5 } },
        );
        let now = 0;
        for (const { kind, n, ok } of steps) {
          now += 7;
          const endpoint = plainEndpoint({ ip: `10.0.0.${n}`, port: 80 });
          const slot = slots.get(endpoint.key);
          if (kind === "add") set.change([endpoint], [], now);
          else if (kind === "remove") set.change([], [endpoint.key], now);
          else if (kind === "connect" && slot !== undefined) set.setConnected(slot, true);
          else if (kind === "drop" && slot !== undefined) set.setConnected(slot, false);
          else if (kind === "request") {
            const picked = set.pick(rng, now);
            if (picked === undefined) continue;
            expect([picked.connected, picked.removed, picked.breaker?.admits]).toEqual([true, false, true]);
            set.dispatched(picked);
            set.measured(picked, now, now + 1);
            set.classified(picked, ok ? "success" : "failure", now + 1, rng);
          }
          const eligible = [...set.slots()].filter((each) => each.connected && each.breaker?.admits !== false);
          expect(set.readyCount).toBe(eligible.length);
        }
        for (const each of set.slots()) expect(each.load.pending).toBe(0);
      }),
    );
  });
});
