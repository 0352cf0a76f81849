import { parentPort } from "node:worker_threads";

/*
 * The real worker, with a clock that runs only while its thread does: tells how much CPU time the longest turn of its loop
 * took. The machine's other work, which a clock on the wall would count, does not count.
 */

const CLOCK_THREAD_CPUTIME_ID = 3;

const ffi = process.getBuiltinModule("node:ffi");
const libc = ffi.dlopen(null, { clock_gettime: { arguments: ["i32", "buffer"], return: "i32" } } as const);
const time = Buffer.alloc(16);

function cpuMs(): number {
  libc.functions.clock_gettime(CLOCK_THREAD_CPUTIME_ID, time);
  return Number(time.readBigInt64LE(0)) * 1_000 + Number(time.readBigInt64LE(8)) / 1e6;
}

/** From the test: begin, or tell. */
export type Measure = { readonly type: "measure.begin" } | { readonly type: "measure.end" };
/** To the test. */
export interface Measured {
  readonly type: "measured";
  /** The longest turns, longest first. */
  readonly cpuMs: readonly number[];
}

let measuring = false;
let last = 0;
let longest: number[] = [];

function turn(): void {
  const now = cpuMs();
  longest.push(now - last);
  last = now;
  if (longest.length > 1_000) longest = longest.sort((a, b) => b - a).slice(0, 5);
  if (measuring) setImmediate(turn);
}

parentPort?.on("message", (message: Measure) => {
  if (message.type === "measure.begin") {
    measuring = true;
    longest = [];
    last = cpuMs();
    setImmediate(turn);
  } else if (message.type === "measure.end") {
    measuring = false;
    const measured: Measured = { type: "measured", cpuMs: longest.sort((a, b) => b - a).slice(0, 5) };
    parentPort?.postMessage(measured);
  }
});

await import("../../src/agent/worker.ts");
