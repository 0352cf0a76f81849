/**
 * The three bundles of the binary. What is loaded costs memory on every host, so there is one for the agent's main thread,
 * one for its worker threads, and one for the cluster side (enroller, invitations, lab), which drags a Kubernetes client
 * along and is evaluated by its own commands only.
 */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";

const ROOT = join(import.meta.dirname, "..");

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

/** An npm package of which something is inside the binary. */
export interface BundledPackage {
  readonly name: string;
  readonly version: string;
  /** Below the root of the tree: `node_modules/yaml`. */
  readonly folder: string;
}

/**
 * Bundles everything into a folder: `agent.cjs`, `worker.cjs`, `cluster.cjs`.
 *
 * @param write - False: only look what would be in them.
 * @returns The npm packages that they hold, by name.
 */
export async function bundle(directory: string, write = true): Promise<readonly BundledPackage[]> {
  const inputs = new Set<string>();
  const into = async (out: string, entry: BuildOptions): Promise<string[]> => {
    const { metafile } = await build({ ...SHARED, ...entry, outfile: join(directory, out), metafile: true, write });
    const paths = Object.keys(metafile.inputs);
    for (const path of paths) inputs.add(path);
    return paths;
  };
  const onHosts = async (out: string, entry: BuildOptions): Promise<void> => {
    const stray = (await into(out, entry)).find((path) => NEVER_ON_A_HOST.some((never) => never.test(path)));
    if (stray !== undefined) throw new Error(`${out} holds ${stray}: import it in an action, through a cluster module`);
  };
  const clusterSide = new Set<string>();
  await onHosts("agent.cjs", { entryPoints: ["src/agent/main.ts"], plugins: [clusterApart(clusterSide)] });
  await onHosts("worker.cjs", { entryPoints: ["src/agent/worker.ts"] });
  const modules = [...clusterSide].sort().map((path) => `${JSON.stringify(path)}: () => require("./${path}")`);
  await into("cluster.cjs", { stdin: { contents: `module.exports = { ${modules.join(", ")} };`, resolveDir: ROOT } });
  return packagesOf(inputs);
}

function packagesOf(inputs: ReadonlySet<string>): BundledPackage[] {
  const folders = new Set<string>();
  // A package may bring its own copy of another: the innermost folder counts.
  for (const path of inputs) {
    const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
    if (folder !== undefined) folders.add(folder);
  }
  return [...folders].sort().map((folder) => {
    const { name, version } = JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as BundledPackage;
    return { name, version, folder };
  });
}
