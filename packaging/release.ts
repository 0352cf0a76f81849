import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { VERSION } from "../src/agent/version.ts";

export const ROOT = join(import.meta.dirname, "..");
export const DIST = join(ROOT, "dist");
export const HERE = import.meta.dirname;

/** What every format says about the package. */
export interface Release {
  /** As in package.json. */
  readonly version: string;
  /** Packagings of that version so far; a new one is an upgrade to package managers. */
  readonly revision: string;
  /** Unix seconds: the only time in a package. Two builds of one input must not differ. */
  readonly seconds: number;
}

export const MAINTAINER = "mesh-agent maintainers <maintainers@mesh-agent.invalid>";
export const SUMMARY = "brings a Linux host into a Linkerd service mesh";
export const DESCRIPTION = [
  "One program, run by systemd, that joins a virtual machine or a bare-metal",
  "host to a Linkerd mesh: it gets an identity from the cluster, registers the",
  "host as an ExternalWorkload, and gives it the mutual TLS, routing, policy and",
  "metrics that a pod has.",
];

/** The release in this tree. */
export function release(): Release {
  return { version: VERSION, revision: "1", seconds: sourceDate() };
}

/** The last commit's time, or what the build says (reproducible-builds.org); a tree without history has a fixed one. */
function sourceDate(): number {
  const said = Number(process.env["SOURCE_DATE_EPOCH"]);
  if (said > 0) return said;
  try {
    return Number(
      execFileSync("git", ["log", "-1", "--format=%ct"], {
        cwd: ROOT,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }),
    );
  } catch {
    return 1_700_000_000;
  }
}
