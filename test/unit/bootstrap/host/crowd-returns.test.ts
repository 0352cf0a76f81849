import { expect, it } from "vitest";
import { silentLog } from "../../../../src/bootstrap/control/index.ts";
import { returnDelayMs } from "../../../../src/bootstrap/host/attach-client.ts";
import { AttachClient } from "../../../../src/bootstrap/host/index.ts";
import { seededRng } from "../../../support/rng.ts";
import { FakeTime } from "../../../support/time.ts";

const HOSTS = 500;

/** How many fall into each of ten equal parts of a range. */
function parts(values: readonly number[], fromMs: number, toMs: number): readonly number[] {
  const counted = new Array<number>(10).fill(0);
  for (const value of values) {
    const part = Math.min(9, Math.floor(((value - fromMs) / (toMs - fromMs)) * 10));
    counted[part] = (counted[part] ?? 0) + 1;
  }
  return counted;
}

it("five hundred hosts that lost their enroller at one moment come to the next one over nine seconds", () => {
  const rng = seededRng(4711);
  const arrivals = Array.from({ length: HOSTS }, () => returnDelayMs(1, true, rng));
  expect(Math.min(...arrivals)).toBeGreaterThanOrEqual(1_000);
  // Well within the thirty seconds for which a dead replica's hosts are believed.
  expect(Math.max(...arrivals)).toBeLessThanOrEqual(10_000);
  // None empty, none with more than a fifth of the crowd.
  expect(Math.min(...parts(arrivals, 1_000, 10_000))).toBeGreaterThan(10);
  expect(Math.max(...parts(arrivals, 1_000, 10_000))).toBeLessThan(HOSTS / 5);
});

it("five hundred hosts that reach nobody ask at moments of their own, further and further apart, at most ten seconds", () => {
  const time = new FakeTime();
  const rng = seededRng(815);
  const scheduler = Object.assign(time, { rng });
  const attempts = new Map<number, number[]>();
  const clients = Array.from({ length: HOSTS }, (_, host) => {
    const at: number[] = [];
    attempts.set(host, at);
    const client = new AttachClient({
      workload: { namespace: "shop", name: `vm-${host}`, serviceAccount: "vm" },
      mesh: { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" },
      enrollers: ["192.0.2.1:4145"],
      // As far as an attempt comes without a network.
      identity: {
        current: () => {
          at.push(time.now());
          return undefined;
        },
        subscribe: () => () => {},
      },
      machine: "",
      hostname: "",
      version: "0.1.0",
      scheduler,
      log: silentLog,
      addresses: () => [],
      handlers: {},
    });
    client.start();
    return client;
  });
  time.advance(60_000);
  for (const client of clients) client.stop();
  const all = [...attempts.values()];
  const gaps = all.flatMap((at) => at.slice(1).map((when, i) => when - (at[i] ?? 0)));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(10_000);
  // All begin at one moment. The third attempt lies within seconds, the tenth anywhere.
  const third = all.map((at) => at[3] ?? 0);
  expect(Math.max(...parts(third, Math.min(...third), Math.max(...third)))).toBeLessThan(HOSTS / 3);
  const perSecond = new Map<number, number>();
  for (const when of all.flat().filter((at) => at > 20_000)) {
    const second = Math.floor(when / 1_000);
    perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
  }
  const busiest = Math.max(...perSecond.values());
  // Five and a half seconds apart on the average: 91 of them a second.
  expect(busiest).toBeLessThan(150);
});
