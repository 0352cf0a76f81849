import { describe, expect, it } from "vitest";
import { EndpointSet, type LoadEstimate, type Slot } from "../../../../src/proxy/balance/index.ts";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import { seededRng } from "../../../support/rng.ts";
import { FakeTime } from "../../../support/time.ts";

const LOAD: LoadEstimate = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 };
const SLOW = "10.0.0.7";

/** Sends `rps` for `seconds` to 30 endpoints of which one takes ten times as long; returns the slow one's share. */
function simulate(seed: number, rps: number, seconds: number): number {
  const time = new FakeTime();
  const rng = seededRng(seed);
  const set: EndpointSet<undefined> = new EndpointSet<undefined>(
    { added: (slot) => set.setConnected(slot, true), removed: () => {} },
    LOAD,
    undefined,
  );
  set.reset(
    Array.from({ length: 30 }, (_, i) => plainEndpoint({ ip: `10.0.0.${i + 1}`, port: 80 })),
    time.now(),
  );
  let slow = 0;
  const total = rps * seconds;
  for (let i = 0; i < total; i++) {
    const slot = set.pick(rng, time.now()) as Slot<undefined>;
    const dispatchedAt = time.now();
    const isSlow = slot.endpoint.address.ip === SLOW;
    if (isSlow) slow++;
    set.dispatched(slot);
    const rttMs = (isSlow ? 100 : 10) * (0.8 + 0.4 * rng());
    time.after(rttMs, () => set.measured(slot, dispatchedAt, time.now()));
    time.advance(1000 / rps);
  }
  return slow / total;
}

describe("one of thirty endpoints is ten times slower", () => {
  it.each([1, 2, 3])("and gets fewer than 5 %% of the requests within 10 s (seed %d)", (seed) => {
    expect(simulate(seed, 500, 10)).toBeLessThan(0.05);
  });

  it("and well below an even share of 1/30, too", () => {
    expect(simulate(4, 500, 10)).toBeLessThan(0.01);
  });
});
