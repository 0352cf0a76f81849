import { describe, expect, test } from "vitest";
import { type ConnectionBounds, ConnectionLimits, connectionTable } from "../../../../src/proxy/transport/index.ts";

const SEED = 0x1234567;

function limits(bounds: ConnectionBounds, workers = 1): ConnectionLimits[] {
  const table = connectionTable(workers);
  return Array.from({ length: workers }, (_, worker) => new ConnectionLimits(table, worker, bounds, SEED));
}

/** How many of `count` connections from one client are taken. */
function taken(at: ConnectionLimits, client: string | undefined, count: number): number {
  let admitted = 0;
  for (let i = 0; i < count; i++) if (typeof at.admit(client) === "number") admitted++;
  return admitted;
}

describe("connections of one client", () => {
  test("at the limit, one above, far above", () => {
    const [one] = limits({ total: 10_000, perClient: 100 }) as [ConnectionLimits];
    expect(taken(one, "192.0.2.1", 100)).toBe(100);
    expect(one.admit("192.0.2.1")).toBe("client");
    expect(taken(one, "192.0.2.1", 5_000)).toBe(0);
    // Others are unaffected.
    expect(taken(one, "192.0.2.2", 100)).toBe(100);
    expect(taken(one, "2001:db8::1", 100)).toBe(100);
  });

  test("that are closed make room", () => {
    const [one] = limits({ total: 10, perClient: 2 }) as [ConnectionLimits];
    const slot = one.admit("192.0.2.1") as number;
    one.admit("192.0.2.1");
    expect(one.admit("192.0.2.1")).toBe("client");
    one.release(slot);
    expect(one.admit("192.0.2.1")).toBe(slot);
    expect(one.open).toBe(2);
  });

  test("a /64 is one client", () => {
    const [one] = limits({ total: 10_000, perClient: 5 }) as [ConnectionLimits];
    const admitted = Array.from({ length: 50 }, (_, i) => one.admit(`2001:db8:0:1::${i.toString(16)}`));
    expect(admitted.filter((admission) => typeof admission === "number")).toHaveLength(5);
    expect(one.admit("2001:db8:0:2::1")).toBeTypeOf("number");
  });

  test("a zone, or no address at all, does not throw", () => {
    const [one] = limits({ total: 10, perClient: 1 }) as [ConnectionLimits];
    expect(one.admit("fe80::1%eth0")).toBeTypeOf("number");
    expect(one.admit("")).toBe("client");
  });

  test("neighbours rarely share a slot", () => {
    const [one] = limits({ total: 10_000, perClient: 1 }) as [ConnectionLimits];
    let admitted = 0;
    for (let i = 0; i < 256; i++) if (typeof one.admit(`10.0.0.${i}`) === "number") admitted++;
    expect(admitted).toBeGreaterThan(230);
  });
});

describe("all connections", () => {
  test("at the limit, one above, far above", () => {
    const [one] = limits({ total: 100, perClient: 1_000 }) as [ConnectionLimits];
    expect(taken(one, "192.0.2.1", 60)).toBe(60);
    expect(taken(one, undefined, 40)).toBe(40);
    expect(one.admit("192.0.2.2")).toBe("total");
    expect(taken(one, undefined, 5_000)).toBe(0);
    expect(one.open).toBe(100);
  });

  test("of all workers are counted together, and a worker that starts again begins with none", () => {
    const bounds = { total: 10, perClient: 8 };
    const table = connectionTable(2);
    const first = new ConnectionLimits(table, 0, bounds, SEED);
    const second = new ConnectionLimits(table, 1, bounds, SEED);
    expect(taken(first, "192.0.2.1", 6)).toBe(6);
    expect(taken(second, "192.0.2.1", 6)).toBe(2);
    expect(taken(second, "192.0.2.2", 6)).toBe(2);
    expect(second.open).toBe(10);
    const successor = new ConnectionLimits(table, 0, bounds, SEED);
    expect(successor.open).toBe(4);
    expect(taken(successor, "192.0.2.1", 9)).toBe(6);
  });
});
