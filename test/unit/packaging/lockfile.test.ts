import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

interface Locked {
  readonly version?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly link?: boolean;
}

const read = (file: string) => readFileSync(file, "utf8");
const { packages } = JSON.parse(read("package-lock.json")) as { readonly packages: Readonly<Record<string, Locked>> };
const manifest = JSON.parse(read("package.json")) as { readonly dependencies: Readonly<Record<string, string>> };
const entries = Object.entries(packages).filter(([folder]) => folder !== "");

test("every package of the lock file has one version and the SHA-512 of its archive", () => {
  expect(entries.length).toBeGreaterThan(100);
  for (const [folder, { version, integrity, link }] of entries) {
    expect([folder, version, link]).toEqual([folder, expect.stringMatching(/^\d+\.\d+\.\d+/), undefined]);
    expect([folder, integrity]).toEqual([folder, expect.stringMatching(/^sha512-[A-Za-z0-9+/]{86}==$/)]);
  }
});

test("none comes from an address of its own: they are whatever registry npm is set to, and the hash decides", () => {
  expect(entries.filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
});

test("no package runs a script of its own when it is installed", () => {
  expect(read(".npmrc")).toMatch(/^ignore-scripts=true$/m);
  expect(read("scripts/setup.sh")).toMatch(/npm_flags=\(--ignore-scripts /);
});

test("at most twelve packages are asked for by what runs on a host", () => {
  expect(Object.keys(manifest.dependencies).length).toBeLessThanOrEqual(12);
});
