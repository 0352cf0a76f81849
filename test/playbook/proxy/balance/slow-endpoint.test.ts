import { describe, expect, it } from "vitest";
import { EndpointSet, type LoadEstimate, type Slot } from "../../../../src/proxy/balance/index.ts";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import { seededRng } from "../../../support/rng.ts";
import { FakeTime } from "../../../support/time.ts";

const LOAD: LoadEstimate = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 };
const ENDPOINTS = 30;
const SLOW = 6;

type Choose = (rng: () => number, now: number) => Chosen;
interface Chosen {
  readonly index: number;
  done(now: number): void;
}

function peakEwma(now: number): Choose {
  const set: EndpointSet<undefined> = new EndpointSet<undefined>(
    { added: (slot) => set.setConnected(slot, true), removed: () => {} },
    LOAD,
    undefined,
  );
  const endpoints = Array.from({ length: ENDPOINTS }, (_, i) => plainEndpoint({ ip: `10.0.0.${i + 1}`, port: 80 }));
  set.reset(endpoints, now);
  return (rng, dispatchedAt) => {
    const slot = set.pick(rng, dispatchedAt) as Slot<undefined>;
    set.dispatched(slot);
    return {
      index: endpoints.indexOf(slot.endpoint),
      done: (doneAt) => set.measured(slot, dispatchedAt, doneAt),
    };
  };
}

function roundRobin(): Choose {
  let next = 0;
  return () => ({ index: next++ % ENDPOINTS, done() {} });
}

/** Two drawn at random, the one with fewer requests under way. */
function leastRequest(): Choose {
  const pending = new Array<number>(ENDPOINTS).fill(0);
  return (rng) => {
    const a = Math.floor(rng() * ENDPOINTS);
    const b = (a + 1 + Math.floor(rng() * (ENDPOINTS - 1))) % ENDPOINTS;
    const index = (pending[b] as number) < (pending[a] as number) ? b : a;
    pending[index] = (pending[index] as number) + 1;
    return {
      index,
      done: () => {
        pending[index] = (pending[index] as number) - 1;
      },
    };
  };
}

/** 500 requests/s for 10 s to 30 endpoints of which one takes ten times as long, one request at a time each. */
function simulate(seed: number, choose: (now: number) => Choose): { slowShare: number; p99Ms: number; p999Ms: number } {
  const time = new FakeTime();
  const rng = seededRng(seed);
  const pick = choose(time.now());
  const freeAt = new Array<number>(ENDPOINTS).fill(0);
  const latencies: number[] = [];
  let slow = 0;
  const total = 5_000;
  for (let i = 0; i < total; i++) {
    const now = time.now();
    const chosen = pick(rng, now);
    if (chosen.index === SLOW) slow++;
    const workMs = (chosen.index === SLOW ? 100 : 10) * (0.8 + 0.4 * rng());
    const doneAt = Math.max(now, freeAt[chosen.index] as number) + workMs;
    freeAt[chosen.index] = doneAt;
    latencies.push(doneAt - now);
    time.after(doneAt - now, () => chosen.done(time.now()));
    time.advance(2);
  }
  latencies.sort((a, b) => a - b);
  const at = (q: number) => latencies[Math.floor(total * q)] as number;
  return { slowShare: slow / total, p99Ms: at(0.99), p999Ms: at(0.999) };
}

describe("one of thirty endpoints is ten times slower", () => {
  it.each([1, 2, 3])("and gets fewer than 5 %% of the requests within 10 s (seed %d)", (seed) => {
    expect(simulate(seed, peakEwma).slowShare).toBeLessThan(0.05);
  });

  it("and well below an even share of 1/30, too", () => {
    expect(simulate(4, peakEwma).slowShare).toBeLessThan(0.01);
  });

  it.each([1, 2, 3])("and the tail is shorter than with round robin or least request (seed %d)", (seed) => {
    const ours = simulate(seed, peakEwma);
    for (const other of [roundRobin, leastRequest]) expect(ours.p99Ms).toBeLessThan(simulate(seed, other).p99Ms);
  });
});
