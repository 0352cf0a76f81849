import { expect, it } from "vitest";
import { backoffMs, RECONNECT } from "../../../../src/bootstrap/control/index.ts";
import { seededRng } from "../../../support/rng.ts";

it("spreads 500 hosts that lost the same enroller at the same moment", () => {
  const rng = seededRng(4711);
  for (const [failures, spanMs] of [
    [1, 1_000],
    [3, 7_000],
    [9, 59_000],
  ] as const) {
    const arrivals = Array.from({ length: 500 }, () => backoffMs(failures, RECONNECT, rng));
    // Ten equal parts of the range: none is empty, none holds more than a fifth of the crowd.
    const parts = new Array<number>(10).fill(0);
    for (const at of arrivals) {
      const part = Math.min(9, Math.floor(((at - RECONNECT.minMs) / spanMs) * 10));
      parts[part] = (parts[part] ?? 0) + 1;
    }
    expect(Math.min(...arrivals)).toBeGreaterThanOrEqual(RECONNECT.minMs);
    expect(Math.min(...parts)).toBeGreaterThan(20);
    expect(Math.max(...parts)).toBeLessThan(100);
  }
});
