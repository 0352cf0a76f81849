import { describe, expect, it } from "vitest";
import { AnswerCache } from "../../../../src/proxy/discovery/cache.ts";
import { MemoryStore } from "../../../support/answer-store.ts";
import { FakeTime } from "../../../support/time.ts";

const HOUR = 3_600_000;
const isAny = (value: unknown): value is unknown => value !== null;

function make(store = new MemoryStore(), time = new FakeTime()) {
  return { store, time, cache: new AnswerCache(store, time, time, 24 * HOUR) };
}

describe("stored answers", () => {
  it("come back with their age", () => {
    const { store, time, cache } = make();
    cache.save("k", () => ({ a: 1 }), true);
    expect(store.files.size).toBe(0);
    time.advance(5_000);
    const savedAt = time.wallMs();
    time.advance(HOUR);
    expect(make(store, time).cache.load("k", isAny)).toEqual({ value: { a: 1 }, confirmedAtMs: savedAt });
  });

  it("are written once for many changes, the last one", () => {
    const { store, time, cache } = make();
    for (let i = 0; i < 1_000; i++) cache.save("k", () => i, true);
    time.advance(5_000);
    expect([store.writes, cache.load("k", isAny)?.value]).toEqual([1, 999]);
  });

  it("are written at once when the end is near", () => {
    const { store, time, cache } = make();
    cache.save("k", () => 1, true);
    cache.flush();
    expect([store.writes, time.armed]).toEqual([1, 0]);
  });

  it("are written again unchanged only when their age would mislead", () => {
    const { store, time, cache } = make();
    cache.save("k", () => 1, true);
    time.advance(5_000);
    time.advance(HOUR / 2);
    cache.save("k", () => 1, false);
    time.advance(5_000);
    expect(store.writes).toBe(1);
    time.advance(HOUR / 2);
    cache.save("k", () => 1, false);
    time.advance(5_000);
    expect(store.writes).toBe(2);
  });

  it("are forgotten when they are too old", () => {
    const { store, time, cache } = make();
    cache.save("k", () => 1, true);
    cache.flush();
    time.advance(24 * HOUR + 1);
    expect(cache.load("k", isAny)).toBeUndefined();
    make(store, time);
    expect(store.files.size).toBe(0);
  });

  it.each([
    ["another format", JSON.stringify({ format: 1, confirmedAtMs: 1e15, value: 1 })],
    ["no value", JSON.stringify({ format: 2, confirmedAtMs: 1e15 })],
    ["no age", JSON.stringify({ format: 2, value: 1 })],
    ["half a file", '{"format":2,"conf'],
    ["something else", "null"],
    ["nothing", ""],
  ])("are ignored with %s", (_, text) => {
    const store = new MemoryStore();
    store.files.set("k", text);
    expect(make(store).cache.load("k", isAny)).toBeUndefined();
  });

  it("are no more than the disk should bear", () => {
    const { store, time, cache } = make();
    for (let i = 0; i < 5_000; i++) cache.save(`k${i}`, () => i, true);
    time.advance(5_000);
    expect([store.files.size, store.files.has("k0"), store.files.has("k4999")]).toEqual([4_096, false, true]);
  });

  it("can be taken back", () => {
    const { store, time, cache } = make();
    cache.save("k", () => 1, true);
    cache.remove("k");
    time.advance(5_000);
    expect(store.files.size).toBe(0);
  });
});
