import fc from "fast-check";
import { expect, test } from "vitest";
import { Http2Stream } from "../../../../../src/proxy/wire/http2/stream.ts";
import { StreamTable } from "../../../../../src/proxy/wire/http2/stream-table.ts";

const stream = (id: number) => new Http2Stream(id, 65_535, 65_535);

test("holds what a Map would, whatever comes and goes", () => {
  // Few places for many identifiers, so that searches meet each other, and steps as a hostile peer would choose them.
  const id = fc.oneof(
    fc.nat(40).map((n) => n * 2 + 1),
    fc.nat(40).map((n) => n * 64 + 1),
    fc.nat(40).map((n) => n * 8_192 + 33),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), id), { maxLength: 300 }), (steps) => {
      const table = new StreamTable();
      const map = new Map<number, Http2Stream>();
      for (const [adds, id] of steps) {
        if (!adds) expect(table.delete(id)).toBe(map.delete(id));
        else if (!map.has(id)) {
          const added = stream(id);
          table.add(added);
          map.set(id, added);
        }
        expect(table.size).toBe(map.size);
        for (const [id, added] of map) expect(table.get(id)).toBe(added);
        expect(table.get(id + 2)).toBe(map.get(id + 2));
      }
      expect(table.values()).toEqual([...map.values()].sort((a, b) => a.id - b.id));
    }),
  );
});

test("a burst leaves no large table behind, and everything is found during it", () => {
  const table = new StreamTable();
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 10_000; n++) table.add(stream(n * 2 + 1));
    for (let n = 0; n < 10_000; n++) expect(table.get(n * 2 + 1)?.id).toBe(n * 2 + 1);
    for (let n = 0; n < 10_000; n++) table.delete(n * 2 + 1);
    expect([table.size, table.get(1), table.values()]).toEqual([0, undefined, []]);
  }
});

test("what was cleared is gone", () => {
  const table = new StreamTable();
  table.add(stream(1));
  table.clear();
  expect([table.size, table.get(1), table.delete(1)]).toEqual([0, undefined, false]);
});
