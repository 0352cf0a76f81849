import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { NAMES } from "../scripts/node-base.ts";
import { licences } from "./notices.ts";
import { DOC, type PackageFile, type PackageInput, packageFile, payload, writeTree } from "./payload.ts";
import { DESCRIPTION, MAINTAINER, type Release, ROOT, SUMMARY } from "./release.ts";
import { scriptlet } from "./scriptlet.ts";

const LICENCES = "usr/share/licenses/mesh-agent";

/** xz in blocks, in two threads whatever the machine has: the bytes do not depend on it. Fast: for tests. */
const PAYLOAD = { small: "w6T2.xzdio", fast: "w1.gzdio" } as const;

/** Builds the RPM; returns its path. Needs rpmbuild, which packages for any architecture: nothing is compiled. */
export function buildRpmOf(input: PackageInput): string {
  const { architecture, release, directory } = input;
  const name = `mesh-agent-${release.version}-${release.revision}.${NAMES[architecture].rpm}`;
  const files = payload(input, name, "usr/share/zsh/site-functions", [
    packageFile(`${LICENCES}/LICENSE`, readFileSync(join(ROOT, "LICENSE")), "licence"),
    packageFile(`${DOC}/CHANGELOG.md`, readFileSync(join(ROOT, "CHANGELOG.md")), "doc"),
  ]);
  const work = mkdtempSync(join(tmpdir(), "mesh-agent-rpm-"));
  try {
    const tree = join(work, "tree");
    mkdirSync(tree);
    writeTree(tree, files, release.seconds);
    writeFileSync(join(work, "mesh-agent.spec"), spec(input, files));
    const macros = {
      _topdir: work,
      _tmppath: work,
      _rpmdir: work,
      _rpmfilename: "built.rpm",
      // What would tell one build from another.
      _buildhost: "reproducible",
      use_source_date_epoch_as_buildtime: "1",
      clamp_mtime_to_source_date_epoch: "1",
      _binary_payload: PAYLOAD[input.compression],
    };
    execFileSync(
      "rpmbuild",
      [
        "-bb",
        "--quiet",
        "--target",
        `${NAMES[architecture].rpm}-linux`,
        ...Object.entries(macros).flatMap(([macro, value]) => ["--define", `${macro} ${value}`]),
        join(work, "mesh-agent.spec"),
      ],
      {
        stdio: ["ignore", "ignore", "inherit"],
        // A home without anybody's ~/.rpmmacros.
        env: { PATH: process.env["PATH"], HOME: work, LC_ALL: "C", SOURCE_DATE_EPOCH: String(release.seconds) },
      },
    );
    const out = join(directory, `${name}.rpm`);
    // Copied, for it may be another file system; moved when whole.
    copyFileSync(join(work, "built.rpm"), `${out}.new`);
    renameSync(`${out}.new`, out);
    return out;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function spec({ release, packages }: PackageInput, files: readonly PackageFile[]): string {
  // Folders that nobody else has. Those that all packages share belong to the distribution's own.
  const folders = [...new Set(files.map(({ path }) => dirname(path)))].filter((folder) =>
    folder.endsWith("/mesh-agent"),
  );
  return `# The program is built already: nothing to compile, strip, split or compress.
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none

Name: mesh-agent
Version: ${release.version}
Release: ${release.revision}
Summary: ${SUMMARY.charAt(0).toUpperCase()}${SUMMARY.slice(1)}
Group: System Environment/Daemons
License: ${licences(packages).join(" AND ")}
URL: https://mesh-agent.invalid/
Packager: ${MAINTAINER}
# The libraries that the program links are found by rpmbuild, with the versions of their symbols; these it runs.
Requires: nftables
Requires: iproute
Requires: systemd >= 249
# Scripts.
Requires(post): systemd
Requires(post): shadow-utils
Requires(preun): systemd
Requires(postun): systemd
Requires(postun): shadow-utils

%description
${DESCRIPTION.join("\n")}

%install
cp -a %{_topdir}/tree/. %{buildroot}/

%post
${scriptlet("rpm", "post")}
%preun
${scriptlet("rpm", "preun")}
%postun
${scriptlet("rpm", "postun")}
%files
${folders.map((folder) => `%dir %attr(0755, root, root) /${folder}\n`).join("")}${files.map(line).join("")}
%changelog
* ${changelogDate(release)} ${MAINTAINER} - ${release.version}-${release.revision}
- Version ${release.version}; CHANGELOG.md says what is new.
`;
}

const KINDS = { plain: "", config: "%config(noreplace) ", doc: "%doc ", licence: "%license " } as const;

function line({ path, mode, kind }: PackageFile): string {
  return `${KINDS[kind]}%attr(0${mode.toString(8)}, root, root) /${path}\n`;
}

/** As rpm reads it: `Sat Nov 28 2026`. */
function changelogDate({ seconds }: Release): string {
  const [day, date, month, year] = new Date(seconds * 1_000).toUTCString().replace(",", "").split(" ");
  return `${day} ${month} ${date} ${year}`;
}
