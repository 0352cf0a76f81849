import type { ByteSink } from "../../src/proxy/core/machine.ts";

const ROUNDS = 9;
const ROUND_MS = 150;

/** A sink that starts over when it is emptied. */
export class BenchSink implements ByteSink {
  buffer = Buffer.alloc(1 << 20);
  end = 0;
  reserve(bytes: number): number {
    if (this.end + bytes > this.buffer.length) throw new Error("the benchmark's sink is full");
    return this.end;
  }
  commit(end: number): void {
    this.end = end;
  }
  append(view: Buffer): void {
    view.copy(this.buffer, this.end);
    this.end += view.length;
  }
}

/**
 * Prints the median of several rounds in ns, and the bytes that the heap grew by, per operation. With `--expose-gc`.
 * @param perCall - How many operations one call of `run` is.
 */
export function measure(name: string, perCall: number, run: () => void): void {
  for (let i = 0; i < 20_000 / perCall; i++) run();
  const figures: number[] = [];
  let calls = 0;
  let bytes = 0;
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    const start = performance.now();
    let count = 0;
    // The young generation takes some megabytes before a collection: the first calls tell what is allocated.
    for (; count < 200; count++) run();
    const grown = process.memoryUsage().heapUsed - heap;
    while (performance.now() - start < ROUND_MS) for (let i = 0; i < 100; i++, count++) run();
    figures.push(((performance.now() - start) * 1e6) / (count * perCall));
    if (grown >= 0) {
      bytes += grown;
      calls += 200 * perCall;
    }
  }
  figures.sort((a, b) => a - b);
  const median = figures[ROUNDS >> 1] as number;
  const allocated = calls === 0 ? "?" : Math.round(bytes / calls).toString();
  console.log(`${name.padEnd(58)} ${median.toFixed(0).padStart(7)} ns ${allocated.padStart(7)} B`);
}
