/**
 * Builds the single binary into dist/: `node scripts/build-binary.ts`.
 *
 * Three bundles, because what is loaded costs memory on every host: the agent's main thread, its worker threads, and the
 * cluster side (enroller, invitations, lab), which drags a Kubernetes client along and is evaluated by its own commands
 * only. They are put into a stripped copy of the Node that runs this script, by Node itself. Same input, same bytes.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const WORK = join(DIST, "build");
export const BINARY = join(DIST, "mesh-agent");

/**
 * How V8 and Node run inside the binary. The code cache is valid only under the same V8 flags, so the build runs with
 * them too; only the seed is the build's own, and not part of that comparison.
 */
const EXEC_ARGV = [
  // SIGUSR1 would open an inspector for whoever may signal us.
  "--disable-sigusr1",
  "--disallow-code-generation-from-strings",
];

const SHARED = {
  bundle: true,
  platform: "node",
  target: "node26",
  // CommonJS, because only that gets a code cache: as an ES module the agent started four times slower, 17 MB larger.
  format: "cjs",
  // A script from the cache cannot import() what is outside it; Node's own modules come by require() then.
  supported: { "dynamic-import": false },
  // Names stay, so that a stack trace from a host can be read; the rest need not be parsed at every start.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "error",
  // The lines that find files beside the source run only outside the binary.
  logOverride: { "empty-import-meta": "silent" },
  absWorkingDir: ROOT,
} as const satisfies BuildOptions;

/** What no host may evaluate: reached from the agent by `import()` alone, inside the actions of its own commands. */
const CLUSTER_SIDE = [/^src\/bootstrap\/enroller\//, /^src\/lab\//, /^src\/agent\/commands\/lab-actions\.ts$/];
/** Found in a host's bundle, somebody imported the cluster side by accident. */
const NEVER_ON_A_HOST = [...CLUSTER_SIDE, /node_modules\/@kubernetes\//];

/** Puts a call of `clusterModule` in the place of each dynamic import of the cluster side, and notes which there are. */
function clusterApart(found: Set<string>): Plugin {
  return {
    name: "cluster-apart",
    setup({ onResolve, onLoad, resolve }) {
      onResolve({ filter: /^\./ }, async ({ path, kind, resolveDir, pluginData }) => {
        if (kind !== "dynamic-import" || pluginData === found) return undefined;
        const name = relative(ROOT, (await resolve(path, { kind, resolveDir, pluginData: found })).path);
        if (!CLUSTER_SIDE.some((side) => side.test(name))) return undefined;
        found.add(name);
        return { path: name, namespace: "cluster" };
      });
      onLoad({ filter: /.*/, namespace: "cluster" }, ({ path }) => ({
        contents: `module.exports = require("./src/agent/cluster-bundle.ts").clusterModule(${JSON.stringify(path)});`,
        resolveDir: ROOT,
      }));
    },
  };
}

async function bundle(out: string, entry: BuildOptions): Promise<void> {
  const { metafile } = await build({ ...SHARED, ...entry, outfile: join(WORK, out), metafile: true });
  if (out === "cluster.cjs") return;
  const stray = Object.keys(metafile.inputs).find((path) => NEVER_ON_A_HOST.some((never) => never.test(path)));
  if (stray !== undefined) throw new Error(`${out} holds ${stray}: import it in an action, through a cluster module`);
}

async function bundleAll(): Promise<void> {
  const clusterSide = new Set<string>();
  await bundle("agent.cjs", { entryPoints: ["src/agent/main.ts"], plugins: [clusterApart(clusterSide)] });
  await bundle("worker.cjs", { entryPoints: ["src/agent/worker.ts"] });
  const modules = [...clusterSide].sort().map((path) => `${JSON.stringify(path)}: () => require("./${path}")`);
  await bundle("cluster.cjs", { stdin: { contents: `module.exports = { ${modules.join(", ")} };`, resolveDir: ROOT } });
}

/** Builds everything; returns the binary's path. */
export async function buildBinary(): Promise<string> {
  mkdirSync(WORK, { recursive: true });
  await bundleAll();
  const base = join(WORK, "node");
  copyFileSync(process.execPath, base);
  // Before anything is put in: strip would throw it out again. 30 MB of symbols that nobody reads on a host.
  execFileSync("strip", ["--strip-all", base], { stdio: "inherit" });
  const config = join(WORK, "sea.json");
  writeFileSync(
    config,
    JSON.stringify({
      main: join(WORK, "agent.cjs"),
      executable: base,
      output: BINARY,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: EXEC_ARGV,
      // NODE_OPTIONS would change what runs, from outside.
      execArgvExtension: "none",
      assets: Object.fromEntries(["worker.cjs", "cluster.cjs"].map((name) => [name, join(WORK, name)])),
    }),
  );
  rmSync(BINARY, { force: true });
  execFileSync(process.execPath, [...EXEC_ARGV, "--random-seed=1", "--build-sea", config], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  chmodSync(BINARY, 0o755);
  return BINARY;
}

if (import.meta.main) {
  const binary = await buildBinary();
  process.stdout.write(`${binary}: ${(statSync(binary).size / 1e6).toFixed(1)} MB\n`);
}
