/**
 * Builds what is installed, into dist/: `node packaging/build.ts deb`, the Debian package of this machine's architecture;
 * `packages`, all formats and architectures; `repo`, those in signed repositories; `image`, the container image. Same
 * input, same bytes (before signatures): every time stamp is that of the commit, every owner is root, and where the tree
 * lies does not matter.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildBinary } from "../scripts/build-binary.ts";
import { bundle } from "../scripts/bundle.ts";
import { ARCHITECTURES, type Architecture } from "../scripts/node-base.ts";
import { buildDebOf } from "./deb.ts";
import { buildImage } from "./image.ts";
import type { PackageInput } from "./payload.ts";
import { DIST, release } from "./release.ts";
import { buildRepository } from "./repository.ts";
import { buildRpmOf } from "./rpm.ts";
import { signer } from "./signer.ts";

/** Builds the binary of an architecture, unless told to take one that is there, and says what packages are made of. */
export async function packageInput(
  architecture: Architecture = process.arch as Architecture,
  binary?: string,
): Promise<PackageInput> {
  mkdirSync(DIST, { recursive: true });
  return {
    binary: binary ?? (await buildBinary(architecture)),
    architecture,
    release: release(),
    packages: await bundle(DIST, false),
    directory: DIST,
    compression: "small",
  };
}

async function inputs(): Promise<readonly PackageInput[]> {
  const all: PackageInput[] = [];
  for (const architecture of ARCHITECTURES) all.push(await packageInput(architecture));
  return all;
}

const TARGETS: Readonly<Record<string, () => Promise<readonly string[]>>> = {
  deb: async () => [buildDebOf(await packageInput())],
  packages: async () => (await inputs()).flatMap((input) => [buildDebOf(input), buildRpmOf(input)]),
  repo: async () => {
    // Before anything is built: a key that is missing should not be found missing after minutes.
    const sign = signer();
    const all = await inputs();
    const built = all.flatMap((input) => [buildDebOf(input), buildRpmOf(input)]);
    return buildRepository(built, all, sign, join(DIST, "repo"));
  },
  image: async () => [buildImage(await inputs())],
};

if (import.meta.main) {
  const target = TARGETS[process.argv[2] ?? ""];
  if (target === undefined) {
    process.stderr.write(`usage: node packaging/build.ts ${Object.keys(TARGETS).join("|")}\n`);
    process.exit(2);
  }
  try {
    for (const path of await target()) process.stdout.write(`${path}: ${(statSync(path).size / 1e6).toFixed(1)} MB\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
