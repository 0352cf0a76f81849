import { describe, expect, it } from "vitest";
import { judge } from "../../../../src/bootstrap/enroller/liveness.ts";

type Sign = { readonly key: string; readonly heardAt: number };
const hosts = (...heardAt: number[]): Sign[] => heardAt.map((at, i) => ({ key: `h${i}`, heardAt: at }));

describe("silence", () => {
  it("of one host makes it unreachable after ten seconds", () => {
    expect(judge(hosts(90_001, 99_000, 99_000), [], 0, 100_000).unreachable).toEqual([]);
    expect(judge(hosts(90_000, 99_000, 99_000), [], 0, 100_000)).toEqual({
      unreachable: ["h0"],
      held: [],
      why: undefined,
    });
  });

  it("of most hosts at once is our fault until proven otherwise", () => {
    const verdict = judge(hosts(85_000, 86_000, 88_000, 99_000), [], 0, 100_000);
    expect(verdict).toEqual({ unreachable: [], held: ["h0", "h1", "h2"], why: "partition" });
  });

  it("is seen as one cut however the heartbeats lay, and although the last host was heard three seconds after the first", () => {
    for (const apart of [0, 500, 1000, 2000, 3000, 4500]) {
      const cut = hosts(90_000, 90_000 + apart / 2, 90_000 + apart, 99_000);
      for (let now = 100_000; now <= 389_000; now += 1000) {
        const alive = [...cut.slice(0, 3), { key: "h3", heardAt: now - 1000 }];
        expect(judge(alive, [], 0, now).unreachable).toEqual([]);
      }
    }
  });

  it("counts those already given up: the third of four within a quarter of a minute is held", () => {
    const [first, second, third, fourth] = hosts(80_000, 85_000, 94_000, 104_000) as [Sign, Sign, Sign, Sign];
    expect(judge([third, fourth], [first, second], 0, 104_000)).toMatchObject({ held: ["h2"], why: "partition" });
    expect(judge([third, fourth], [second], 0, 104_000).unreachable).toEqual(["h2"]);
    const long = { ...first, heardAt: 78_999 };
    expect(judge([third, fourth], [long, second], 0, 104_000).unreachable).toEqual(["h2"]);
  });

  it("of one, while others are merely late with a beat, is its own", () => {
    expect(judge(hosts(90_000, 95_001, 95_001, 95_001), [], 0, 100_000).unreachable).toEqual(["h0"]);
  });

  it("of two hosts, or of fewer than half, is their own", () => {
    expect(judge(hosts(85_000, 86_000), [], 0, 100_000).unreachable).toHaveLength(2);
    const few = hosts(85_000, 86_000, 87_000, 99_000, 99_000, 99_000, 99_000);
    expect(judge(few, [], 0, 100_000).unreachable).toHaveLength(3);
  });

  it("of many, but one after the other, is their own", () => {
    expect(judge(hosts(30_000, 50_000, 70_000, 99_000), [], 0, 100_000).unreachable).toHaveLength(3);
  });

  it("is not believed by a young enroller", () => {
    expect(judge(hosts(80_000, 99_000, 99_000), [], 50_000, 100_000)).toMatchObject({ held: ["h0"], why: "young" });
  });

  it("is held for five minutes, no longer", () => {
    const silent = hosts(100_000, 100_000, 100_000);
    expect(judge(silent, [], 0, 399_999).unreachable).toEqual([]);
    expect(judge(silent, [], 0, 400_000).unreachable).toHaveLength(3);
  });
});
