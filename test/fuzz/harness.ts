import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { seededRng } from "../support/rng.ts";
import type { Guide } from "./guide.ts";
import { mutate, split } from "./mutate.ts";

/**
 * A mutating fuzzer for decoders: inputs that reach code no other input reached are kept and mutated further, which V8's
 * precise coverage tells. Everything follows from the seed, so a failure can be run again. What is counted is slow, two
 * to fifty times: a long run looks for inputs worth keeping with a guide (`scout.ts`) and mutates them without one.
 *
 * Inputs that once failed lie in `regressions/NAME` and run first; what the fuzzer found worth keeping is written to
 * `corpus/NAME` if asked for.
 */
export interface FuzzTarget {
  /** A kebab-case noun; names the folders of corpus and regressions. */
  readonly name: string;
  /** Valid inputs to begin with. */
  readonly seeds: readonly Buffer[];
  /** Octets that mean something to the decoder, to be inserted. */
  readonly dictionary?: readonly Buffer[];
  /** Which scripts' coverage counts: a part of their URL, such as `src/proxy/wire/http2/`. */
  readonly covers: string;
  /**
   * Decodes one input given in these pieces. Must not throw for anything that bytes can say.
   * @returns what stays alive with the connection, so that its size can be judged.
   */
  run(pieces: readonly Buffer[]): unknown;
}

/** How long to go on: as many inputs, or as many seconds, whichever is reached first. */
export interface FuzzOptions {
  readonly runs: number;
  readonly seconds?: number;
  readonly seed?: number;
  /** Finds inputs that are worth keeping; without it those given are mutated, and no other. */
  readonly guide?: Guide;
  /** Growth is not judged: over few inputs it is that of what V8 compiles and counts. */
  readonly brief?: boolean;
  /** Inputs to begin with, besides the target's own and what is stored. */
  readonly corpus?: readonly Buffer[];
  /** Write new corpus entries down. */
  readonly keep?: boolean;
}

export interface FuzzReport {
  readonly inputs: number;
  /** Inputs kept because they reached something new, after those to begin with. */
  readonly corpus: readonly Buffer[];
  /** The slowest input of at most 16 KiB, ms. */
  readonly slowestMs: number;
  /** What the input that kept the most memory kept, bytes. */
  readonly keptBytes: number;
  /** Memory after the last input beyond what there was after a tenth of them, bytes. */
  readonly grownBytes: number;
}

const MAX_MS_PER_INPUT = 50;
// From here on it is asked again whether it was the input or the machine: a collection, another process.
const SUSPECT_MS = 5;
const MAX_KEPT_BYTES = 4 * 1024 * 1024;
// Asking for coverage costs as much as hundreds of inputs: seldom where little is found, often where much is.
const MIN_BATCH = 64;
const MAX_BATCH = 16_384;
const ROOT = new URL("./", import.meta.url);

// Millions of errors are made on purpose; nobody reads their stacks.
Error.stackTraceLimit = 0;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** @throws Error that names the seed and holds the input in hex, for the first input that breaks a promise. */
export function fuzz(target: FuzzTarget, options: FuzzOptions): FuzzReport {
  const seed = options.seed ?? 1;
  const random = seededRng(seed);
  const until = performance.now() + (options.seconds ?? Number.POSITIVE_INFINITY) * 1000;
  const { guide } = options;
  const corpus = [
    ...target.seeds,
    ...stored("corpus", target.name),
    ...stored("regressions", target.name),
    ...(options.corpus ?? []),
  ];
  const known = corpus.length;
  const dictionary = target.dictionary ?? [];
  let inputs = 0;
  let slowestMs = 0;
  let usedBefore = 0;

  const attempt = (pieces: readonly Buffer[]): void => {
    inputs++;
    const ms = timed(target, pieces, seed);
    if (ms <= SUSPECT_MS) {
      if (ms > slowestMs) slowestMs = ms;
      return;
    }
    // Only what is slow every time is slow.
    const again = Math.min(...[1, 2, 3, 4, 5].map(() => timed(target, pieces, seed)));
    if (again > MAX_MS_PER_INPUT) throw failed(target, pieces, seed, `took ${again.toFixed(0)} ms`);
    slowestMs = Math.max(slowestMs, again);
  };

  // Twice: while the first runs, functions are compiled.
  for (const input of [...corpus, ...corpus]) attempt([input]);
  guide?.reachedNew();
  for (let batch = MIN_BATCH; inputs < options.runs && performance.now() < until; ) {
    if (usedBefore === 0 && inputs * 10 >= options.runs) usedBefore = used();
    const tried: (readonly Buffer[])[] = [];
    for (let i = Math.min(batch, options.runs - inputs); i > 0 && performance.now() < until; i--) {
      const pieces = split(mutate(corpus, dictionary, random), random);
      attempt(pieces);
      if (guide !== undefined) tried.push(pieces);
    }
    const found = guide?.reachedNew() === true ? guide.whichReached(tried, attempt) : [];
    corpus.push(...found.map((pieces) => Buffer.concat(pieces)));
    batch = found.length > 0 ? MIN_BATCH : Math.min(MAX_BATCH, batch * 2);
  }

  const grownBytes = usedBefore === 0 ? 0 : Math.max(0, used() - usedBefore);
  if (grownBytes > MAX_KEPT_BYTES && options.brief !== true)
    throw new Error(`${target.name}: memory grew by ${grownBytes} bytes (seed ${seed})`);
  let keptBytes = 0;
  for (const input of corpus.slice(-200)) keptBytes = Math.max(keptBytes, kept(target, input));
  if (keptBytes > MAX_KEPT_BYTES) throw new Error(`${target.name}: an input keeps ${keptBytes} bytes (seed ${seed})`);
  if (options.keep === true) store(target.name, corpus.slice(known));
  return { inputs, corpus, slowestMs, keptBytes, grownBytes };
}

/** One line about a run. */
export function describeReport(name: string, report: FuzzReport): string {
  const { inputs, corpus, slowestMs, keptBytes, grownBytes } = report;
  return `${name}: ${inputs} inputs, ${corpus.length} kept, slowest ${slowestMs.toFixed(1)} ms, largest state ${keptBytes} B, grown by ${grownBytes} B`;
}

function timed(target: FuzzTarget, pieces: readonly Buffer[], seed: number): number {
  const start = performance.now();
  try {
    target.run(pieces);
  } catch (error) {
    throw failed(target, pieces, seed, "threw", error);
  }
  return performance.now() - start;
}

function failed(target: FuzzTarget, pieces: readonly Buffer[], seed: number, what: string, cause?: unknown): Error {
  const text = pieces.map((piece) => piece.toString("hex")).join(" ");
  return new Error(`${target.name} ${what} (seed ${seed}) for ${text}: ${String(cause ?? "")}`, { cause });
}

function used(): number {
  // Twice: memory outside the heap is given back after the first.
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function kept(target: FuzzTarget, input: Buffer): number {
  const before = used();
  const alive = target.run([input]);
  const bytes = used() - before;
  // Used here, so that it is alive above.
  return alive === null ? 0 : Math.max(0, bytes);
}

function stored(kind: "corpus" | "regressions", name: string): Buffer[] {
  const folder = new URL(`${kind}/${name}/`, ROOT);
  try {
    return readdirSync(folder).map((file) => readFileSync(new URL(file, folder)));
  } catch {
    // Nothing was kept yet.
    return [];
  }
}

function store(name: string, inputs: readonly Buffer[]): void {
  const folder = new URL(`corpus/${name}/`, ROOT);
  mkdirSync(folder, { recursive: true });
  const next = readdirSync(folder).length;
  for (const [i, input] of inputs.entries())
    writeFileSync(new URL(`${String(next + i).padStart(4, "0")}.bin`, folder), input);
}
