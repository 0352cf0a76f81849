import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Architecture, NAMES } from "../scripts/node-base.ts";
import {
  DOC,
  gzip,
  kilobytes,
  type PackageFile,
  type PackageInput,
  packageFile,
  payload,
  writeTree,
} from "./payload.ts";
import { DESCRIPTION, HERE, MAINTAINER, type Release, ROOT, SUMMARY } from "./release.ts";
import { scriptlet } from "./scriptlet.ts";

/** xz always with its several-block encoder: the bytes do not depend on how many cores there are. Fast: for tests. */
const COMPRESSION = { small: ["-Zxz"], fast: ["-Zgzip", "-z1"] } as const;

/** Builds the Debian package; returns its path. */
export function buildDebOf(input: PackageInput): string {
  const { architecture, release, directory } = input;
  const name = `mesh-agent_${release.version}-${release.revision}_${NAMES[architecture].deb}`;
  const files = payload(input, name, "usr/share/zsh/vendor-completions", [
    packageFile(`${DOC}/copyright`, readFileSync(join(HERE, "deb/copyright")), "licence"),
    packageFile(`${DOC}/changelog.gz`, gzip(readFileSync(join(ROOT, "CHANGELOG.md"))), "doc"),
    packageFile(`${DOC}/changelog.Debian.gz`, gzip(debianChangelog(release)), "doc"),
    packageFile("usr/share/lintian/overrides/mesh-agent", readFileSync(join(HERE, "deb/lintian-overrides"))),
  ]);
  const script = (file: string) => ({
    ...packageFile(`DEBIAN/${file}`, scriptlet("deb", file)),
    mode: 0o755,
  });
  const conffiles = files.flatMap(({ kind, path }) => (kind === "config" ? [`/${path}\n`] : []));
  const tree = mkdtempSync(join(tmpdir(), "mesh-agent-deb-"));
  try {
    writeTree(
      tree,
      [
        ...files,
        packageFile("DEBIAN/conffiles", conffiles.join("")),
        packageFile("DEBIAN/control", control(release, architecture, kilobytes(files))),
        packageFile("DEBIAN/md5sums", md5sums(files)),
        ...["postinst", "prerm", "postrm"].map(script),
      ],
      release.seconds,
    );
    const out = join(directory, `${name}.deb`);
    // Moved when whole: whoever looks sees no half of it.
    const half = `${out}.new`;
    execFileSync("dpkg-deb", ["--root-owner-group", ...COMPRESSION[input.compression], "--build", tree, half], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { PATH: process.env["PATH"], LC_ALL: "C", SOURCE_DATE_EPOCH: String(release.seconds) },
    });
    renameSync(half, out);
    return out;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function control({ version, revision }: Release, architecture: Architecture, size: number): string {
  return `Package: mesh-agent
Version: ${version}-${revision}
Architecture: ${NAMES[architecture].deb}
Maintainer: ${MAINTAINER}
Installed-Size: ${size}
Depends: libatomic1, libstdc++6 (>= 9), libc6 (>= 2.28), nftables (>= 1.0.6), iproute2, systemd (>= 249)
Section: net
Priority: optional
Description: ${SUMMARY}
${DESCRIPTION.map((line) => ` ${line}\n`).join("")}`;
}

/** What `dpkg -V` compares with. The conffile is dpkg's own to watch. */
function md5sums(files: readonly PackageFile[]): string {
  return files
    .filter(({ kind }) => kind !== "config")
    .map(({ path, content }) => `${createHash("md5").update(content).digest("hex")}  ${path}\n`)
    .join("");
}

function debianChangelog({ version, revision, seconds }: Release): string {
  // RFC 2822, as dpkg wants it: toUTCString says GMT where that says +0000.
  const date = new Date(seconds * 1_000).toUTCString().replace("GMT", "+0000");
  return `mesh-agent (${version}-${revision}) stable; urgency=medium

  * Version ${version}; changelog.gz says what is new.

 -- ${MAINTAINER}  ${date}
`;
}
