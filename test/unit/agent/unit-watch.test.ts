import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UnitWatch } from "../../../src/agent/unit-watch.ts";

let root: string;
let changes: number;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "cgroup-"));
  mkdirSync(join(root, "system.slice/other.service"), { recursive: true });
  changes = 0;
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const watch = () => new UnitWatch(["app.service"], () => changes++, root);

test("hears of a unit that starts, starts again, and stops, and of no other", () => {
  const units = watch();
  const group = join(root, "system.slice/app.service");
  units.check();
  expect(changes).toBe(0);
  mkdirSync(group);
  units.check();
  units.check();
  expect(changes).toBe(1);
  // Held open, so that the next one cannot get its inode: a disk's file system may give it again at once, cgroupfs does not.
  const held = openSync(group, "r");
  rmSync(group, { recursive: true });
  mkdirSync(group);
  units.check();
  closeSync(held);
  expect(changes).toBe(2);
  mkdirSync(join(root, "system.slice/third.service"));
  units.check();
  expect(changes).toBe(2);
  rmSync(group, { recursive: true });
  units.check();
  expect(changes).toBe(3);
});

test("finds a unit in a slice within a slice", () => {
  const units = watch();
  mkdirSync(join(root, "apps.slice/apps-shop.slice/app.service"), { recursive: true });
  units.check();
  expect(changes).toBe(1);
});
