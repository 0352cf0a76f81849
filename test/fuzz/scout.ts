import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { FuzzOptions } from "./harness.ts";

/** What a scout is asked: a target's name, and how far to go. */
interface Errand extends Pick<FuzzOptions, "runs" | "seed" | "keep"> {
  readonly name: string;
}

/**
 * Looks for inputs that reach something new, in a thread of its own: V8 counts coverage for a whole isolate, and code that
 * is counted is never fast again.
 * @returns the inputs found and how many were tried. @throws what the fuzzer throws for the first that breaks a promise.
 */
export async function scout(errand: Errand): Promise<{ readonly found: readonly Buffer[]; readonly inputs: number }> {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: errand,
    execArgv: ["--import", new URL("./coverage.ts", import.meta.url).href],
  });
  const [{ found, inputs }] = (await once(worker, "message")) as [{ found: Uint8Array[]; inputs: number }];
  return { found: found.map((bytes) => Buffer.from(bytes)), inputs };
}

if (!isMainThread && parentPort !== null) {
  const { name, ...options } = workerData as Errand;
  const [{ Guide }, { fuzz }, { TARGETS }] = await Promise.all([
    import("./guide.ts"),
    import("./harness.ts"),
    import("./targets/index.ts"),
  ]);
  const target = TARGETS.find((each) => each.name === name);
  if (target === undefined) throw new Error(`no target ${name}`);
  const { corpus, inputs } = fuzz(target, { ...options, brief: true, guide: new Guide(target.covers) });
  parentPort.postMessage({ found: corpus.slice(target.seeds.length), inputs });
}
