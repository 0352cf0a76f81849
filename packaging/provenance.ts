import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ARCHITECTURES, nodeVersion } from "../scripts/node-base.ts";
import type { PackageInput } from "./payload.ts";
import { ROOT } from "./release.ts";
import type { Published } from "./repository.ts";

interface Locked {
  readonly version: string;
  readonly integrity: string;
}

/**
 * Says which inputs made which files: an in-toto statement with a SLSA build provenance in it. Whoever builds the same
 * commit gets the same packages, up to signatures, and can so check it without trusting the builder.
 *
 * @see https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.0/provenance
 */
export function provenance(files: readonly Published[], inputs: readonly PackageInput[]): string {
  const [{ release, packages }] = inputs as [PackageInput];
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, Locked>>;
  };
  const fromNpm = (folder: string, name: string) => {
    const { version, integrity } = lock.packages[folder] as Locked;
    return { uri: `pkg:npm/${name.replace("@", "%40")}@${version}`, digest: { sha512: hex(integrity) } };
  };
  const commit = git("rev-parse", "HEAD");
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: files.map(({ name, sha256 }) => ({ name, digest: { sha256 } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "https://mesh-agent.invalid/build/make/v1",
        externalParameters: { target: "repo", version: release.version, sourceDateEpoch: release.seconds },
        // A tree with changes of its own is not the commit that is named below.
        internalParameters: { node: nodeVersion(), changed: git("status", "--porcelain") !== "" },
        resolvedDependencies: [
          {
            uri: "git+https://mesh-agent.invalid/mesh-agent",
            ...(commit !== undefined && { digest: { gitCommit: commit } }),
          },
          ...ARCHITECTURES.map((architecture) => `node-linux-${architecture}`).map((name) =>
            fromNpm(`node_modules/${name}`, name),
          ),
          ...packages.map(({ folder, name }) => fromNpm(folder, name)),
        ],
      },
      runDetails: { builder: { id: process.env["BUILDER_ID"] ?? "https://mesh-agent.invalid/builders/by-hand" } },
    },
  };
  return `${JSON.stringify(statement, undefined, 2)}\n`;
}

/** Subresource integrity, `sha512-` and base64, as the lock file has it. */
function hex(integrity: string): string {
  return Buffer.from(integrity.replace(/^sha512-/, ""), "base64").toString("hex");
}

/** Undefined in a tree without history, such as an unpacked archive. */
function git(...args: readonly string[]): string | undefined {
  try {
    return execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}
