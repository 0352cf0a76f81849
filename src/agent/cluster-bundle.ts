import { Module } from "node:module";
import { getAsset } from "node:sea";

type Modules = Readonly<Record<string, () => unknown>>;

let modules: Modules | undefined;

/**
 * One module of the cluster side (enroller, lab), from the bundle inside the binary. The bundle is evaluated once and a
 * module when it is first asked for. Called by what the build puts in place of those modules' dynamic imports; from the
 * source tree the imports are what they say.
 *
 * @param path - Of the source file, as the build names it.
 */
export function clusterModule(path: string): unknown {
  modules ??= evaluate(getAsset("cluster.cjs", "utf8"));
  return modules[path]?.();
}

function evaluate(source: string): Modules {
  const bundle = new Module("cluster.cjs") as Module & { _compile(source: string, name: string): void };
  // The loader's own way from source to exports; it also gives the bundle a `require` for Node's modules.
  bundle._compile(source, "cluster.cjs");
  return bundle.exports as Modules;
}
