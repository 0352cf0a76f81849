import { chmodSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { BundledPackage } from "../scripts/bundle.ts";
import type { Architecture } from "../scripts/node-base.ts";
import { completion } from "../src/agent/completion/index.ts";
import { createProgram } from "../src/agent/program.ts";
import { conffile } from "./conffile.ts";
import { configurationPage } from "./man.ts";
import { notices } from "./notices.ts";
import { HERE, type Release, ROOT } from "./release.ts";
import { sbom } from "./sbom.ts";

/** What a build of any format starts from. */
export interface PackageInput {
  /** Path of the program for the architecture. */
  readonly binary: string;
  readonly architecture: Architecture;
  readonly release: Release;
  /** What is inside the program. */
  readonly packages: readonly BundledPackage[];
  /** Folder that the package is written into. */
  readonly directory: string;
  /** `fast` is for tests: the same content, half a minute earlier and half as large again. */
  readonly compression: "small" | "fast";
}

/** One file that a package puts on a host, owned by root. */
export interface PackageFile {
  /** From the root of the host, without the first slash. */
  readonly path: string;
  readonly content: Buffer;
  readonly mode: number;
  /** `config` is the administrator's once installed; `doc` and `licence` may be left out of small installations. */
  readonly kind: "plain" | "config" | "doc" | "licence";
}

export const DOC = "usr/share/doc/mesh-agent";

export function packageFile(path: string, content: string | Buffer, kind: PackageFile["kind"] = "plain"): PackageFile {
  return { path, content: Buffer.from(content), kind, mode: 0o644 };
}

/** Same bytes everywhere: Node's own zlib, no name and no time in the header. */
export function gzip(content: string | Buffer, compression: PackageInput["compression"] = "small"): Buffer {
  return gzipSync(content, { level: compression === "small" ? 9 : 1 });
}

/**
 * What is in the package, sorted by path. The bill of materials lists all the others.
 *
 * @param name - Of the package, without its extension.
 * @param zshFolder - Where the distribution's zsh looks for completions of packages.
 * @param extra - What only this format has.
 */
export function payload(
  { binary, release, packages }: PackageInput,
  name: string,
  zshFolder: string,
  extra: readonly PackageFile[],
): readonly PackageFile[] {
  const program = createProgram();
  const files = [
    ...extra,
    { path: "usr/bin/mesh-agent", content: readFileSync(binary), kind: "plain", mode: 0o755 } as const,
    ...readdirSync(join(HERE, "systemd")).map((unit) =>
      packageFile(`usr/lib/systemd/system/${unit}`, readFileSync(join(HERE, "systemd", unit))),
    ),
    packageFile("usr/lib/sysusers.d/mesh-agent.conf", readFileSync(join(HERE, "sysusers/mesh-agent.conf"))),
    packageFile("etc/mesh-agent/config.yaml", conffile(), "config"),
    packageFile("usr/share/man/man8/mesh-agent.8.gz", gzip(readFileSync(join(HERE, "man/mesh-agent.8"))), "doc"),
    packageFile("usr/share/man/man5/mesh-agent.yaml.5.gz", gzip(configurationPage()), "doc"),
    packageFile("usr/share/bash-completion/completions/mesh-agent", completion("bash", program)),
    packageFile(`${zshFolder}/_mesh-agent`, completion("zsh", program)),
    packageFile("usr/share/fish/vendor_completions.d/mesh-agent.fish", completion("fish", program)),
    packageFile(`${DOC}/third-party-notices.gz`, gzip(notices(packages)), "licence"),
    packageFile(`${DOC}/reference.md.gz`, gzip(readFileSync(join(ROOT, "docs/reference.md"))), "doc"),
  ];
  const bill = { name, path: `${DOC}/sbom.cdx.json.gz` };
  const content = gzip(sbom(bill, release, packages, files));
  return [...files, packageFile(bill.path, content, "doc")].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Lays files out below a folder, everything with one time; directories open to all, as on a host. */
export function writeTree(tree: string, files: readonly PackageFile[], seconds: number): void {
  const folders = new Set([tree]);
  for (const { path, content, mode } of files) {
    const target = join(tree, path);
    for (let folder = dirname(target); !folders.has(folder); folder = dirname(folder)) folders.add(folder);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
    chmodSync(target, mode);
    utimesSync(target, seconds, seconds);
  }
  for (const folder of folders) {
    chmodSync(folder, 0o755);
    utimesSync(folder, seconds, seconds);
  }
}

/** Rounded up file by file, as package managers count what an installation takes. */
export function kilobytes(files: readonly PackageFile[]): number {
  return files.reduce((sum, { content }) => sum + Math.ceil(content.length / 1024), 0);
}
