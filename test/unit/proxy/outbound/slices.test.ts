import { describe, expect, it } from "vitest";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import { DIALS_AT_ONCE, Dials, GAP_MS, YOUNG_MS } from "../../../../src/proxy/outbound/dials.ts";
import { SLICE, Slices } from "../../../../src/proxy/outbound/slices.ts";
import { FakeTime } from "../../../support/time.ts";

/** Turns of the loop, taken by hand. */
function turns() {
  let due: (() => void)[] = [];
  return {
    later: (callback: () => void) => void due.push(callback),
    /** @returns false: nothing was due. */
    next(): boolean {
      const callbacks = due;
      due = [];
      for (const callback of callbacks) callback();
      return callbacks.length > 0;
    },
  };
}

const endpoint = (i: number) => plainEndpoint({ ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, port: 80 });
const endpoints = (count: number) => Array.from({ length: count }, (_, i) => endpoint(i));

describe("slices of a change", () => {
  function make() {
    const loop = turns();
    const known = new Set<string>();
    const work: number[] = [];
    const slices = new Slices((add, remove) => {
      work.push(add.length + remove.length);
      for (const { key } of add) known.add(key);
      for (const key of remove) known.delete(key);
    }, loop.later);
    return { loop, known, work, slices };
  }

  it("take 5,000 endpoints a little per turn, the first at once", () => {
    const { loop, known, work, slices } = make();
    slices.push(endpoints(5_000), []);
    expect([known.size, slices.isBehind]).toEqual([SLICE, true]);
    while (loop.next()) expect(Math.max(...work)).toBeLessThanOrEqual(SLICE);
    expect([known.size, slices.isBehind, work.length]).toEqual([5_000, false, Math.ceil(5_000 / SLICE)]);
  });

  it("take a small change at once", () => {
    const { loop, known, slices } = make();
    slices.push(endpoints(3), []);
    slices.push([], [endpoint(0).key]);
    expect([known.size, slices.isBehind, loop.next()]).toEqual([2, false, false]);
  });

  it("keep the order of changes, and never run empty on the way", () => {
    const { loop, known, slices } = make();
    slices.push(endpoints(1_000), []);
    const after = Array.from({ length: 500 }, (_, i) => endpoint(2_000 + i));
    slices.push(
      after,
      endpoints(1_000).map(({ key }) => key),
    );
    slices.push([], [endpoint(2_000).key]);
    do expect(known.size).toBeGreaterThan(0);
    while (loop.next());
    expect(known.size).toBe(499);
  });

  it("tell what goes next until it is gone", () => {
    const { loop, known, slices } = make();
    slices.push(endpoints(1_000), []);
    while (loop.next());
    slices.push(
      [],
      endpoints(500).map(({ key }) => key),
    );
    const going = () => endpoints(1_000).filter(({ key }) => slices.isLeaving(key)).length;
    expect([known.size, going()]).toEqual([1_000 - SLICE, 500 - SLICE]);
    expect(slices.isLeaving(endpoint(600).key)).toBe(false);
    while (loop.next()) expect(going()).toBe(known.size - 500);
    expect(going()).toBe(0);
  });

  it("are forgotten when nobody wants them any more", () => {
    const { loop, work, slices } = make();
    slices.push(endpoints(5_000), []);
    slices.stop();
    loop.next();
    expect([work.length, loop.next(), slices.isBehind]).toEqual([1, false, false]);
  });
});

describe("connections ahead of requests", () => {
  function make(isOpen: (n: number) => boolean = () => false) {
    const loop = turns();
    const time = new FakeTime();
    const begun: number[] = [];
    const dials = new Dials<number>(
      (n) => {
        if (isOpen(n)) return false;
        begun.push(n);
        return true;
      },
      loop.later,
      (ms, callback) => void time.after(ms, callback),
    );
    return { loop, time, begun, dials };
  }

  it("are begun a few at a time, in order, each after one before it is there", () => {
    const { loop, time, begun, dials } = make();
    for (let n = 0; n < 64; n++) dials.add(n);
    for (let n = 0; n < 64; n++) {
      expect(begun.length - n).toBeLessThanOrEqual(DIALS_AT_ONCE);
      expect(begun).toContain(n);
      dials.settled(n);
      loop.next();
      time.advance(GAP_MS);
    }
    expect(begun).toEqual(Array.from({ length: 64 }, (_, n) => n));
  });

  it("are never begun two at a time, however quickly they are there", () => {
    const { loop, time, begun, dials } = make();
    for (let n = 0; n < 64; n++) dials.add(n);
    for (let n = 1; n <= 64; n++) {
      expect(begun).toHaveLength(n);
      for (const each of begun) dials.settled(each);
      loop.next();
      time.advance(GAP_MS);
    }
  });

  it("do not wait long for those that do not answer", () => {
    const { time, begun, dials } = make();
    for (let n = 0; n < 64; n++) dials.add(n);
    time.advance(YOUNG_MS - 1);
    expect(begun).toHaveLength(DIALS_AT_ONCE);
    time.advance(YOUNG_MS);
    expect(begun).toHaveLength(2 * DIALS_AT_ONCE);
    time.advance(YOUNG_MS * 21);
    expect(begun).toHaveLength(64);
  });

  it("count only where there is something to open", () => {
    const { time, begun, dials } = make((n) => n < 50);
    for (let n = 0; n < 60; n++) dials.add(n);
    time.advance(YOUNG_MS - 1);
    expect(begun).toEqual([50, 51, 52].slice(0, DIALS_AT_ONCE));
  });

  it("are not begun any more once they are called off", () => {
    const { loop, time, begun, dials } = make();
    for (let n = 0; n < 9; n++) dials.add(n);
    time.advance(YOUNG_MS - 1);
    dials.stop();
    dials.settled(0);
    loop.next();
    time.advance(1_000);
    expect(begun).toHaveLength(DIALS_AT_ONCE);
  });
});
