import { describe, expect, it } from "vitest";
import { judge } from "../../../../src/bootstrap/enroller/liveness.ts";

const hosts = (...heardAt: number[]) => heardAt.map((at, i) => ({ key: `h${i}`, heardAt: at }));

describe("silence", () => {
  it("of one host makes it unreachable after ten seconds", () => {
    expect(judge(hosts(90_001, 99_000, 99_000), 0, 100_000).unreachable).toEqual([]);
    expect(judge(hosts(90_000, 99_000, 99_000), 0, 100_000)).toEqual({ unreachable: ["h0"], held: [], why: undefined });
  });

  it("of most hosts at once is our fault until proven otherwise", () => {
    const verdict = judge(hosts(85_000, 86_000, 88_000, 99_000), 0, 100_000);
    expect(verdict).toEqual({ unreachable: [], held: ["h0", "h1", "h2"], why: "partition" });
  });

  it("of two hosts, or of fewer than half, is their own", () => {
    expect(judge(hosts(85_000, 86_000), 0, 100_000).unreachable).toHaveLength(2);
    const few = hosts(85_000, 86_000, 87_000, 99_000, 99_000, 99_000, 99_000);
    expect(judge(few, 0, 100_000).unreachable).toHaveLength(3);
  });

  it("of many, but one after the other, is their own", () => {
    expect(judge(hosts(30_000, 50_000, 70_000, 99_000), 0, 100_000).unreachable).toHaveLength(3);
  });

  it("is not believed by a young enroller", () => {
    expect(judge(hosts(80_000, 99_000, 99_000), 50_000, 100_000)).toMatchObject({ held: ["h0"], why: "young" });
  });

  it("is held for five minutes, no longer", () => {
    const silent = hosts(100_000, 100_000, 100_000);
    expect(judge(silent, 0, 399_999).unreachable).toEqual([]);
    expect(judge(silent, 0, 400_000).unreachable).toHaveLength(3);
  });
});
