/** Who drains and who serves: a process and those that it starts in its place. */
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { startSuccessor } from "../../../src/agent/upgrade.ts";
import { until } from "../../support/until.ts";

const argv = process.argv;
afterEach(() => {
  process.argv = argv;
});

/** Starts one that behaves so, and counts how often its end is heard of. */
async function successor(behaviour: string): Promise<{ readonly alive: boolean; ends: number }> {
  process.argv = [process.execPath, fileURLToPath(new URL("../../support/successor.ts", import.meta.url)), behaviour];
  const heard = { ends: 0 };
  const started = await startSuccessor(new Map(), () => void heard.ends++);
  return {
    get alive() {
      return started.alive;
    },
    get ends() {
      return heard.ends;
    },
  };
}

test("a successor that ends is missed, unless it has passed its place on: who drains goes on then", async () => {
  const first = await successor("passes-on");
  await until(() => !first.alive, "it ends");
  const second = await successor("serves");
  await until(() => second.ends === 1, "its end is heard of");
  expect(first.ends).toBe(0);
});
