/**
 * Builds everything for this machine and prints what came out, `{"name": "SHA-256", …}`: run from copies of the tree, the
 * output tells whether their place, user, time or environment got into the bytes.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { buildDebOf } from "../../packaging/deb.ts";
import { buildImage } from "../../packaging/image.ts";
import type { PackageInput } from "../../packaging/payload.ts";
import { DIST, release } from "../../packaging/release.ts";
import { buildRpmOf } from "../../packaging/rpm.ts";
import { buildBinary } from "../../scripts/build-binary.ts";
import { bundle } from "../../scripts/bundle.ts";
import type { Architecture } from "../../scripts/node-base.ts";

const architecture = process.arch as Architecture;
const directory = join(DIST, "reproduced");
mkdirSync(directory, { recursive: true });
const input: PackageInput = {
  binary: process.argv[2] ?? (await buildBinary(architecture)),
  architecture,
  release: release(),
  packages: await bundle(DIST, false),
  directory,
  compression: "fast",
};
const files = [input.binary, buildDebOf(input), buildRpmOf(input), buildImage([input])];
const hashes = files.map((file) => [basename(file), createHash("sha256").update(readFileSync(file)).digest("hex")]);
process.stdout.write(`${JSON.stringify(Object.fromEntries(hashes))}\n`);
