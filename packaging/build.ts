/**
 * Builds the Debian package into dist/: `node packaging/build.ts deb`. Same input, same bytes: every time stamp in it is
 * that of the commit, every owner is root.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { buildBinary } from "../scripts/build-binary.ts";
import { VERSION } from "../src/agent/version.ts";
import { conffile } from "./conffile.ts";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const HERE = join(ROOT, "packaging");
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Unix seconds of everything in the package: the last commit's, or what the build says (reproducible-builds.org). */
function sourceDate(): number {
  const said = Number(process.env["SOURCE_DATE_EPOCH"]);
  if (said > 0) return said;
  try {
    return Number(execFileSync("git", ["log", "-1", "--format=%ct"], { cwd: ROOT, encoding: "utf8" }));
  } catch {
    return 1_700_000_000;
  }
}

/** Builds the binary, unless told to take the one that is there, and the package around it; returns its path. */
export async function buildDeb(binary?: string): Promise<string> {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`no package for ${process.arch}`);
  const program = binary ?? (await buildBinary());
  const tree = join(DIST, "deb");
  rmSync(tree, { recursive: true, force: true });
  const put = (path: string, content: string | Buffer, mode = 0o644) => {
    const target = join(tree, path);
    mkdirSync(join(target, ".."), { recursive: true });
    writeFileSync(target, content);
    chmodSync(target, mode);
  };
  mkdirSync(join(tree, "usr/bin"), { recursive: true });
  cpSync(program, join(tree, "usr/bin/mesh-agent"));
  chmodSync(join(tree, "usr/bin/mesh-agent"), 0o755);
  for (const unit of readdirSync(join(HERE, "systemd")))
    put(`lib/systemd/system/${unit}`, readFileSync(join(HERE, "systemd", unit)));
  put("usr/lib/sysusers.d/mesh-agent.conf", readFileSync(join(HERE, "deb/mesh-agent.sysusers")));
  put("etc/mesh-agent/config.yaml", conffile());
  // gzip writes no name and no time of its own: level 9 of Node's zlib, header time zero.
  put("usr/share/man/man8/mesh-agent.8.gz", gzipSync(readFileSync(join(HERE, "man/mesh-agent.8")), { level: 9 }));
  put("usr/share/doc/mesh-agent/copyright", readFileSync(join(HERE, "deb/copyright")));
  put("usr/share/doc/mesh-agent/changelog.gz", gzipSync(readFileSync(join(ROOT, "CHANGELOG.md")), { level: 9 }));
  put("DEBIAN/conffiles", "/etc/mesh-agent/config.yaml\n");
  put("DEBIAN/control", control(architecture, treeKilobytes(tree)));
  for (const script of ["postinst", "prerm", "postrm"])
    put(`DEBIAN/${script}`, readFileSync(join(HERE, "deb", script)), 0o755);
  const seconds = sourceDate();
  settle(tree, seconds);
  const out = join(DIST, `mesh-agent_${VERSION}_${architecture}.deb`);
  rmSync(out, { force: true });
  execFileSync("dpkg-deb", ["--root-owner-group", "-Zxz", "--build", tree, out], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, SOURCE_DATE_EPOCH: String(seconds) },
  });
  return out;
}

function control(architecture: string, kilobytes: number): string {
  return `Package: mesh-agent
Version: ${VERSION}
Architecture: ${architecture}
Maintainer: mesh-agent maintainers <maintainers@mesh-agent.invalid>
Installed-Size: ${kilobytes}
Depends: libatomic1, libstdc++6, libc6 (>= 2.28), nftables (>= 1.0.6), iproute2, systemd (>= 249)
Section: net
Priority: optional
Description: brings a Linux host into a Linkerd service mesh
 One program, run by systemd, that joins a virtual machine or a bare-metal
 host to a Linkerd mesh: it gets an identity from the cluster, registers the
 host as an ExternalWorkload, and gives it the mutual TLS, routing, policy and
 metrics that a pod has.
`;
}

function walk(directory: string, visit: (path: string, isDirectory: boolean) => void): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) walk(path, visit);
    visit(path, entry.isDirectory());
  }
}

function treeKilobytes(tree: string): number {
  let bytes = 0;
  walk(tree, (path) => {
    bytes += statSync(path).size;
  });
  return Math.ceil(bytes / 1024);
}

function settle(tree: string, seconds: number): void {
  walk(tree, (path, isDirectory) => {
    if (isDirectory) chmodSync(path, 0o755);
    utimesSync(path, seconds, seconds);
  });
  chmodSync(tree, 0o755);
  utimesSync(tree, seconds, seconds);
}

if (import.meta.main) {
  if (process.argv[2] !== "deb") {
    process.stderr.write("usage: node packaging/build.ts deb\n");
    process.exit(2);
  }
  const started = performance.now();
  const out = await buildDeb();
  const megabytes = (statSync(out).size / 1e6).toFixed(1);
  process.stdout.write(`${out}: ${megabytes} MB, ${((performance.now() - started) / 1_000).toFixed(0)} s\n`);
}
