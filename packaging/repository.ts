import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { ARCHITECTURES, NAMES } from "../scripts/node-base.ts";
import { gzip, type PackageInput } from "./payload.ts";
import { provenance } from "./provenance.ts";
import { MAINTAINER, SUMMARY } from "./release.ts";
import type { Signer } from "./signer.ts";

const KEY = "mesh-agent.asc";
const SUITE = "stable";
const COMPONENT = "main";
const POOL = `pool/${COMPONENT}/m/mesh-agent`;

/**
 * Lays packages out as an apt and a yum repository, signed, for any web server to serve as files:
 *
 * ```text
 * apt/    InRelease below dists/stable, packages below pool       mesh-agent.sources for /etc/apt/sources.list.d
 * yum/    repodata with its signature, signed RPMs                mesh-agent.repo    for /etc/yum.repos.d
 * mesh-agent.asc                                                  the public key
 * SHA256SUMS(.asc), provenance.json(.asc)                         of every package; which source and inputs made it
 * ```
 *
 * @param packages - Paths of .deb and .rpm files.
 * @param url - Under which the folder will be reached; by default where it lies.
 * @returns The files that vouch for the rest, as paths.
 */
export function buildRepository(
  packages: readonly string[],
  inputs: readonly PackageInput[],
  signer: Signer,
  directory: string,
  url = process.env["REPOSITORY_URL"] ?? pathToFileURL(directory).href,
): readonly string[] {
  const { seconds } = (inputs[0] as PackageInput).release;
  // Made beside and moved: whoever serves the folder never serves half of it.
  const half = `${directory}.new`;
  rmSync(half, { recursive: true, force: true });
  mkdirSync(half, { recursive: true });
  writeFileSync(join(half, KEY), signer.publicKey());
  const of = (format: string) => packages.filter((path) => path.endsWith(`.${format}`));
  aptRepository(join(half, "apt"), of("deb"), seconds, signer);
  yumRepository(join(half, "yum"), of("rpm"), seconds, signer);
  writeFileSync(join(half, "mesh-agent.sources"), aptSource(url, signer.publicKey()));
  writeFileSync(join(half, "mesh-agent.repo"), yumSource(url));

  const published = packageFiles(half);
  writeFileSync(join(half, "provenance.json"), provenance(published, inputs));
  const sums = [...published, ...packageFiles(half, /^(?:provenance\.json|mesh-agent\.(?:asc|sources|repo))$/)];
  writeFileSync(
    join(half, "SHA256SUMS"),
    sums
      .map(({ name, sha256 }) => `${sha256}  ${name}\n`)
      .sort()
      .join(""),
  );
  for (const name of ["SHA256SUMS", "provenance.json"]) signer.sign(join(half, name), join(half, `${name}.asc`));
  rmSync(directory, { recursive: true, force: true });
  renameSync(half, directory);
  return ["SHA256SUMS.asc", "provenance.json.asc", "apt/dists/stable/InRelease", "yum/repodata/repomd.xml.asc"].map(
    (name) => join(directory, name),
  );
}

/** A file that is given away. */
export interface Published {
  /** From the folder of the repository. */
  readonly name: string;
  readonly sha256: string;
}

function packageFiles(directory: string, which = /\.(?:deb|rpm)$/): readonly Published[] {
  return (readdirSync(directory, { recursive: true }) as string[])
    .filter((name) => which.test(name))
    .sort()
    .map((name) => ({ name, sha256: digest("sha256", readFileSync(join(directory, name))) }));
}

function digest(algorithm: string, content: Buffer): string {
  return createHash(algorithm).update(content).digest("hex");
}

function aptRepository(directory: string, packages: readonly string[], seconds: number, signer: Signer): void {
  const pool = join(directory, POOL);
  mkdirSync(pool, { recursive: true });
  for (const path of packages) copyFileSync(path, join(pool, basename(path)));
  const dists = join(directory, "dists", SUITE);
  const indexes = ARCHITECTURES.flatMap((architecture) => {
    const { deb } = NAMES[architecture];
    const folder = `${COMPONENT}/binary-${deb}`;
    mkdirSync(join(dists, folder), { recursive: true });
    const index = execFileSync("apt-ftparchive", ["--arch", deb, "packages", POOL], {
      cwd: directory,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const files = { [`${folder}/Packages`]: index, [`${folder}/Packages.gz`]: gzip(index) };
    return Object.entries(files).map(([name, content]) => {
      writeFileSync(join(dists, name), content);
      return ` ${digest("sha256", content)} ${content.length} ${name}\n`;
    });
  });
  const release = join(dists, "Release");
  // apt-ftparchive would put the present time in. https://wiki.debian.org/DebianRepository/Format
  writeFileSync(
    release,
    `Origin: mesh-agent
Label: mesh-agent
Suite: ${SUITE}
Codename: ${SUITE}
Date: ${new Date(seconds * 1_000).toUTCString().replace("GMT", "+0000")}
Architectures: ${ARCHITECTURES.map((architecture) => NAMES[architecture].deb).join(" ")}
Components: ${COMPONENT}
Description: mesh-agent ${SUMMARY}
SHA256:
${indexes.join("")}`,
  );
  signer.signInside(release, join(dists, "InRelease"));
  signer.sign(release, join(dists, "Release.gpg"));
}

function yumRepository(directory: string, packages: readonly string[], seconds: number, signer: Signer): void {
  mkdirSync(directory, { recursive: true });
  const signed = packages.map((path) => join(directory, basename(path)));
  packages.forEach((path, index) => {
    copyFileSync(path, signed[index] as string);
  });
  signer.signRpms(signed);
  execFileSync(
    "createrepo_c",
    ["--quiet", "--no-database", "--revision", String(seconds), "--set-timestamp-to-revision", directory],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const index = join(directory, "repodata/repomd.xml");
  signer.sign(index, `${index}.asc`);
}

/** deb822, with the key inside: apt 2.3.10 or newer, so Debian 12. */
function aptSource(url: string, publicKey: string): string {
  // Continued lines begin with a blank; an empty one is a dot.
  const key = publicKey
    .trim()
    .split("\n")
    .map((line) => ` ${line === "" ? "." : line}\n`)
    .join("");
  return `Types: deb
URIs: ${url}/apt
Suites: ${SUITE}
Components: ${COMPONENT}
Signed-By:
${key}`;
}

function yumSource(url: string): string {
  return `[mesh-agent]
name=mesh-agent, ${MAINTAINER}
baseurl=${url}/yum
gpgcheck=1
repo_gpgcheck=1
gpgkey=${url}/${KEY}
`;
}
