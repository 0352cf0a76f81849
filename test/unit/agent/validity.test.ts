import { expect, it } from "vitest";
import { ValidityWatch, validityOf } from "../../../src/agent/validity.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { FakeScheduler } from "../../support/fake-scheduler.ts";

it("judges by the end alone: a clock that is behind makes nothing invalid", () => {
  expect(validityOf(undefined, 0)).toEqual({ kind: "none" });
  expect(validityOf({ notAfterMs: 100 }, 40)).toEqual({ kind: "valid", leftMs: 60 });
  expect(validityOf({ notAfterMs: 100 }, 100)).toEqual({ kind: "valid", leftMs: 0 });
  expect(validityOf({ notAfterMs: 100 }, 101)).toEqual({ kind: "expired", sinceMs: 1 });
});

it("notices the end at once, a moved clock within half a minute, and the way back", async () => {
  const scheduler = new FakeScheduler();
  const seen: string[] = [];
  let identity = { notAfterMs: scheduler.wallMs() + 100_000 } as WorkloadIdentity;
  const watch = new ValidityWatch(
    () => identity,
    scheduler,
    ({ kind }) => seen.push(kind),
  );
  watch.look();
  await scheduler.pass(100_000, 1_000);
  expect(seen).toEqual(["valid"]);
  await scheduler.pass(10, 1);
  expect(seen).toEqual(["valid", "expired"]);
  identity = { ...identity, notAfterMs: scheduler.wallMs() + 86_400_000 };
  watch.look();
  scheduler.wallOffsetMs += 2 * 86_400_000;
  await scheduler.pass(30_000, 1_000);
  expect(seen).toEqual(["valid", "expired", "valid", "expired"]);
  scheduler.wallOffsetMs -= 2 * 86_400_000;
  await scheduler.pass(30_000, 1_000);
  expect(seen.at(-1)).toBe("valid");
  watch.stop();
  expect(scheduler.armed).toBe(0);
});
