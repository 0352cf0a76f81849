import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, expect, test } from "vitest";
import { licences } from "../../../packaging/notices.ts";
import { ROOT } from "../../../packaging/release.ts";

const folder = mkdtempSync(join(tmpdir(), "licences-"));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;

function declaring(license: unknown) {
  const name = `package-${made++}`;
  mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, name, "package.json"), JSON.stringify({ license }));
  return { name, version: "1.0.0", folder: relative(ROOT, join(folder, name)) };
}

test("every licence stands once, ours first; a choice stays whole", () => {
  const packages = ["MIT", "(Apache-2.0 AND BSD-3-Clause)", "ISC", "(MIT OR CC0-1.0)"].map(declaring);
  expect(licences(packages)).toEqual(["Apache-2.0", "MIT", "(MIT OR CC0-1.0)", "BSD-3-Clause", "ISC"]);
});

test("a package that declares none is refused by name", () => {
  const nameless = declaring(undefined);
  expect(() => licences([nameless])).toThrow(`${nameless.name} declares no licence`);
});
