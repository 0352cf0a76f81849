/**
 * Builds the single binary into dist/: `node scripts/build-binary.ts [x64|arm64]`.
 *
 * The bundles of `bundle.ts` are put into a stripped copy of the npm registry's Node for the architecture, by Node itself,
 * which does that for foreign machines too. Same input, same bytes, wherever the tree lies.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "./bundle.ts";
import { ARCHITECTURES, type Architecture, NAMES, nodeBase, nodeVersion } from "./node-base.ts";

const DIST = join(import.meta.dirname, "../dist");

/**
 * How V8 and Node run inside the binary. The code cache is valid only under the same V8 flags, so the build runs with
 * them too; only the seed is the build's own, and not part of that comparison.
 */
const EXEC_ARGV = [
  // SIGUSR1 would open an inspector for whoever may signal us.
  "--disable-sigusr1",
  "--disallow-code-generation-from-strings",
];

/** Builds everything; returns the binary's path. */
export async function buildBinary(architecture: Architecture = process.arch as Architecture): Promise<string> {
  if (process.versions.node !== nodeVersion())
    throw new Error(`this is Node ${process.versions.node}; the lock file wants ${nodeVersion()}`);
  mkdirSync(DIST, { recursive: true });
  const work = mkdtempSync(join(DIST, "binary-"));
  try {
    await bundle(work);
    copyFileSync(join(nodeBase(architecture), "bin/node"), join(work, "node"));
    // Before anything is put in: strip would throw it out again. 30 MB of symbols that nobody reads on a host.
    // The compiler's comment goes too: putting something in leaves its section pointing elsewhere, which linters stumble over.
    execFileSync(`${NAMES[architecture].triplet}-strip`, ["--strip-all", "-R.comment", join(work, "node")], {
      stdio: "inherit",
    });
    writeFileSync(
      join(work, "sea.json"),
      JSON.stringify({
        // Relative: the names become part of the binary, and the place of the tree must not.
        main: "agent.cjs",
        executable: "node",
        output: "mesh-agent",
        disableExperimentalSEAWarning: true,
        // V8 writes the cache for the machine that it runs on; elsewhere the source is compiled at every start.
        useCodeCache: architecture === process.arch,
        execArgv: EXEC_ARGV,
        // NODE_OPTIONS would change what runs, from outside.
        execArgvExtension: "none",
        assets: { "worker.cjs": "worker.cjs", "cluster.cjs": "cluster.cjs" },
      }),
    );
    execFileSync(process.execPath, [...EXEC_ARGV, "--random-seed=1", "--build-sea", "sea.json"], {
      cwd: work,
      stdio: ["ignore", "ignore", "inherit"],
      // Whatever Node or OpenSSL would take from the builder's environment.
      env: { PATH: process.env["PATH"] },
    });
    const output = join(work, "mesh-agent");
    chmodSync(output, 0o755);
    const binary = join(DIST, `mesh-agent-${NAMES[architecture].deb}`);
    renameSync(output, binary);
    return binary;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const wanted = process.argv[2] ?? process.arch;
  const architecture = ARCHITECTURES.find((known) => known === wanted);
  if (architecture === undefined) {
    process.stderr.write(`usage: node scripts/build-binary.ts [${ARCHITECTURES.join("|")}]\n`);
    process.exit(2);
  }
  const binary = await buildBinary(architecture);
  process.stdout.write(`${binary}: ${(statSync(binary).size / 1e6).toFixed(1)} MB\n`);
}
