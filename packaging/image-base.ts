import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Architecture, NAMES } from "../scripts/node-base.ts";
import { ROOT } from "./release.ts";

/** What the program links, and what those need. */
const LIBRARIES = ["libc6", "libgcc-s1", "libstdc++6", "libatomic1"];
/** Every package's copyright may be a link into another's folder. */
const LINK_TARGETS = /^gcc-\d+-base$/;

/** A Debian package inside an image. */
export interface BasePackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly file: string;
  readonly sha256: string;
}

/**
 * Debian's packages of the libraries, for an architecture that need not be this machine's: those of the release that this
 * machine's apt has sources of, signatures checked by apt. Kept in .cache/; `rm -r .cache/image-base-*` asks again.
 */
export function basePackages(architecture: Architecture): readonly BasePackage[] {
  const { deb } = NAMES[architecture];
  const kept = join(ROOT, ".cache", `image-base-${deb}`);
  if (!existsSync(kept)) download(deb, kept);
  return readdirSync(kept)
    .sort()
    .map((name) => {
      const file = join(kept, name);
      const field = (key: string) => execFileSync("dpkg-deb", ["--field", file, key], { encoding: "utf8" }).trim();
      const sha256 = createHash("sha256").update(readFileSync(file)).digest("hex");
      return {
        name: field("Package"),
        version: field("Version"),
        architecture: field("Architecture"),
        file,
        sha256,
      };
    });
}

function download(deb: string, kept: string): void {
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  const half = mkdtempSync(`${kept}.`);
  const state = mkdtempSync(join(tmpdir(), "mesh-agent-apt-"));
  try {
    for (const folder of ["lists/partial", "cache/archives/partial", "packages"])
      mkdirSync(join(state, folder), { recursive: true });
    writeFileSync(join(state, "status"), "");
    const options = {
      "APT::Architecture": deb,
      "APT::Architectures": deb,
      // The folders are ours, and apt's own user may not enter them.
      "APT::Sandbox::User": "",
      "Acquire::Languages": "none",
      "Dir::State": state,
      "Dir::State::lists": join(state, "lists"),
      "Dir::State::status": join(state, "status"),
      "Dir::Cache": join(state, "cache"),
    };
    const apt = (...args: readonly string[]) =>
      execFileSync(
        "apt-get",
        ["-q", ...Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]), ...args],
        { cwd: join(state, "packages"), stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" },
      );
    apt("update");
    // Without a status file nothing is installed, so everything that they need is in the list.
    const needed = apt("install", "--simulate", "--no-install-recommends", ...LIBRARIES)
      .split("\n")
      .flatMap((line) => /^Inst (\S+)/.exec(line)?.[1] ?? [])
      .filter((name) => LIBRARIES.includes(name) || LINK_TARGETS.test(name));
    apt("download", ...needed);
    for (const name of readdirSync(join(state, "packages"))) cpSync(join(state, "packages", name), join(half, name));
    // Readable by whoever builds next, which a folder made for the moment is not.
    chmodSync(half, 0o755);
    renameSync(half, kept);
  } finally {
    rmSync(half, { recursive: true, force: true });
    rmSync(state, { recursive: true, force: true });
  }
}

/** Lays the libraries out, with the words on their licences and, for scanners, the packages' own description. */
export function layOutBase(tree: string, packages: readonly BasePackage[]): void {
  for (const folder of ["usr/lib", "usr/lib64", "var/lib/dpkg/status.d", "etc", "tmp"])
    mkdirSync(join(tree, folder), { recursive: true });
  for (const folder of ["lib", "lib64"]) symlinkSync(`usr/${folder}`, join(tree, folder));
  for (const { name, file } of packages) {
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -xp -C "$2" --keep-directory-symlink --no-same-owner';
    execFileSync("sh", ["-c", unpack, "sh", file, tree], { stdio: ["ignore", "ignore", "pipe"] });
    const status = join(tree, "var/lib/dpkg/status.d", name);
    writeFileSync(status, execFileSync("dpkg-deb", ["--field", file]));
    // Whatever the builder's mask is.
    chmodSync(status, 0o644);
  }
  // No character sets (Node brings its own), and of documents only the licences.
  for (const name of readdirSync(tree, { recursive: true }) as string[])
    if (
      /\/(?:gconv|audit)$|^usr\/share\/(?:lintian|gcc|gdb|bug)$/.test(name) ||
      /^usr\/share\/doc\/[^/]+\/(?!copyright$)/.test(name)
    )
      rmSync(join(tree, name), { recursive: true, force: true });
}
