import { getAsset, isSea } from "node:sea";
import { Worker } from "node:worker_threads";
import type { WorkerStart } from "./worker.ts";
import { letWorkerHeapsGrow } from "./worker-heap.ts";

/** Starts a worker: from the source tree, or from the bundle inside the single binary. */
export function spawnWorker(start: WorkerStart): Worker {
  letWorkerHeapsGrow();
  const options = { workerData: start, name: `proxy-${start.index}`, stdout: false, stderr: false };
  if (isSea()) return new Worker(getAsset("worker.cjs", "utf8"), { ...options, eval: true });
  return new Worker(new URL("./worker.ts", import.meta.url), options);
}
