import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildDebOf } from "../../packaging/deb.ts";
import { buildImage } from "../../packaging/image.ts";
import type { PackageInput } from "../../packaging/payload.ts";
import { DIST, ROOT, release } from "../../packaging/release.ts";
import { buildRpmOf } from "../../packaging/rpm.ts";
import { buildBinary } from "../../scripts/build-binary.ts";
import { bundle } from "../../scripts/bundle.ts";
import { ARCHITECTURES, type Architecture, NAMES } from "../../scripts/node-base.ts";

/** What is in packages, beside the npm packages that the lock file pins. */
const SOURCES = ["src", "packaging", "scripts", "docs", "package-lock.json", "CHANGELOG.md"];

export const HERE = process.arch as Architecture;

/** A file of dist/ if it is newer than all that goes into it, otherwise built: once a run, whichever test asks first. */
async function fresh(file: string, build: () => string | Promise<string>): Promise<string> {
  const sources = Math.max(...SOURCES.map((name) => newest(join(ROOT, name))));
  const built = statSync(file, { throwIfNoEntry: false });
  return built !== undefined && built.mtimeMs > sources ? file : await build();
}

function newest(path: string): number {
  if (!statSync(path).isDirectory()) return statSync(path).mtimeMs;
  let latest = 0;
  for (const entry of readdirSync(path, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) latest = Math.max(latest, statSync(join(entry.parentPath, entry.name)).mtimeMs);
  return latest;
}

// Seconds of work, and the same for every format and architecture.
let bundled: ReturnType<typeof bundle> | undefined;

/** What packages of this tree are made of, its program built if need be. `fast`: into a folder of their own. */
export async function input(
  architecture: Architecture = HERE,
  compression: PackageInput["compression"] = "fast",
): Promise<PackageInput> {
  const directory = compression === "fast" ? join(DIST, "fast") : DIST;
  mkdirSync(directory, { recursive: true });
  const binary = await fresh(join(DIST, `mesh-agent-${NAMES[architecture].deb}`), () => buildBinary(architecture));
  bundled ??= bundle(DIST, false);
  return { binary, architecture, release: release(), packages: await bundled, directory, compression };
}

async function packaged(name: (input: PackageInput) => string, build: (input: PackageInput) => string, from: Input) {
  const made = await input(...from);
  return await fresh(join(made.directory, name(made)), () => build(made));
}

type Input = Parameters<typeof input>;

/** The Debian package of this tree. */
export async function deb(...from: Input): Promise<string> {
  const name = ({ release: { version, revision }, architecture }: PackageInput) =>
    `mesh-agent_${version}-${revision}_${NAMES[architecture].deb}.deb`;
  return await packaged(name, buildDebOf, from);
}

/** The RPM of this tree. */
export async function rpm(...from: Input): Promise<string> {
  const name = ({ release: { version, revision }, architecture }: PackageInput) =>
    `mesh-agent-${version}-${revision}.${NAMES[architecture].rpm}.rpm`;
  return await packaged(name, buildRpmOf, from);
}

/** The container image of this tree, for all architectures. */
export async function image(): Promise<string> {
  const all: PackageInput[] = [];
  for (const architecture of ARCHITECTURES) all.push(await input(architecture));
  const [{ directory, release: made }] = all as [PackageInput];
  return await fresh(join(directory, `mesh-agent-${made.version}.oci.tar`), () => buildImage(all));
}
