import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Rng } from "../../src/proxy/core/clock.ts";
import { seededRng } from "../support/rng.ts";
import { takeCoverage } from "./coverage.ts";

/**
 * A mutating fuzzer for decoders: inputs that reach code no other input reached are kept and mutated further, which V8's
 * precise coverage tells. Everything follows from the seed, so a failure can be run again.
 *
 * `FUZZ_SECONDS` is the time per target (2), `FUZZ_SEED` the seed (1). Inputs that once failed lie in `regressions/NAME`
 * and run first; what the fuzzer found worth keeping is written to `corpus/NAME` if `FUZZ_KEEP` is set.
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

export interface FuzzReport {
  readonly inputs: number;
  /** Inputs kept because they reached something new. */
  readonly corpus: number;
  /** The slowest input, ms per 16 KiB. */
  readonly slowestMs: number;
  /** What the input that kept the most memory kept, bytes. */
  readonly keptBytes: number;
}

const MAX_INPUT_BYTES = 16_384;
const MAX_MS_PER_INPUT = 50;
const MAX_KEPT_BYTES = 4 * 1024 * 1024;
// Asking for coverage costs as much as hundreds of inputs, so it is asked once for many.
const BATCH = 200;
const ROOT = new URL("./", import.meta.url);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** @throws Error that names the seed and holds the input in hex, for the first input that breaks a promise. */
export function fuzz(target: FuzzTarget): FuzzReport {
  const seed = Number(process.env["FUZZ_SEED"] ?? 1);
  const seconds = Number(process.env["FUZZ_SECONDS"] ?? 2);
  const random = seededRng(seed);
  const corpus = [...target.seeds, ...stored("corpus", target.name), ...stored("regressions", target.name)];
  const grown: Buffer[] = [];
  let inputs = 0;
  let slowestMs = 0;

  const attempt = (input: Buffer): void => {
    inputs++;
    const pieces = split(input, random);
    const ms = timed(target, input, pieces, seed);
    const scaled = ms / Math.max(1, input.length / MAX_INPUT_BYTES);
    if (scaled > MAX_MS_PER_INPUT) {
      // The machine may have been busy: only what is slow every time is slow.
      const again = Math.min(...[1, 2, 3].map(() => timed(target, input, pieces, seed)));
      if (again > MAX_MS_PER_INPUT) throw failed(target, input, seed, `took ${again.toFixed(0)} ms`);
      slowestMs = Math.max(slowestMs, again);
    } else slowestMs = Math.max(slowestMs, scaled);
  };

  for (const input of corpus) attempt(input);
  withCoverage(target.covers, (reachedNew) => {
    for (const input of corpus) attempt(input);
    reachedNew();
    const until = performance.now() + seconds * 1000;
    while (performance.now() < until) {
      const batch = Array.from({ length: BATCH }, () =>
        mutate(pick(corpus, random), corpus, target.dictionary ?? [], random),
      );
      for (const input of batch) attempt(input);
      if (!reachedNew()) continue;
      // Some of them did: each once more, and the ones that reach what the others before it did not, stay. Coverage is
      // forgotten in between, so the first of those that go the same way is the one.
      for (const input of batch) {
        attempt(input);
        if (reachedNew(true)) {
          corpus.push(input);
          grown.push(input);
        }
      }
    }
  });

  let keptBytes = 0;
  for (const input of corpus.slice(-200)) keptBytes = Math.max(keptBytes, kept(target, input));
  if (keptBytes > MAX_KEPT_BYTES) throw new Error(`${target.name}: an input keeps ${keptBytes} bytes (seed ${seed})`);
  if (process.env["FUZZ_KEEP"] !== undefined) store(target.name, grown);
  return { inputs, corpus: corpus.length, slowestMs, keptBytes };
}

function timed(target: FuzzTarget, input: Buffer, pieces: readonly Buffer[], seed: number): number {
  const start = performance.now();
  try {
    target.run(pieces);
  } catch (error) {
    throw failed(target, input, seed, "threw", error);
  }
  return performance.now() - start;
}

function failed(target: FuzzTarget, input: Buffer, seed: number, what: string, cause?: unknown): Error {
  return new Error(`${target.name} ${what} (seed ${seed}) for ${input.toString("hex")}: ${String(cause ?? "")}`, {
    cause,
  });
}

function kept(target: FuzzTarget, input: Buffer): number {
  collectGarbage();
  const before = process.memoryUsage();
  const alive = target.run([input]);
  collectGarbage();
  const after = process.memoryUsage();
  const bytes = after.heapUsed - before.heapUsed + after.external - before.external;
  // Used here, so that it is alive above.
  return alive === null ? 0 : Math.max(0, bytes);
}

function below(limit: number, random: Rng): number {
  return Math.floor(random() * limit);
}

function pick<T>(of: readonly T[], random: Rng): T {
  return of[below(of.length, random)] as T;
}

/** Whole, in two at any offset, or octet by octet at the beginning. */
function split(input: Buffer, random: Rng): Buffer[] {
  const way = random();
  if (way < 0.5 || input.length < 2) return input.length === 0 ? [] : [input];
  if (way < 0.9) {
    const at = 1 + below(input.length - 1, random);
    return [input.subarray(0, at), input.subarray(at)];
  }
  const single = Math.min(input.length, 64);
  const pieces = Array.from({ length: single }, (_, i) => input.subarray(i, i + 1));
  return input.length > single ? [...pieces, input.subarray(single)] : pieces;
}

const MEANINGFUL = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x20, 0x09, 0x3a, 0x30, 0x2f];

function mutate(from: Buffer, corpus: readonly Buffer[], dictionary: readonly Buffer[], random: Rng): Buffer {
  let bytes: Buffer = Buffer.from(from);
  const times = 1 + below(6, random);
  for (let i = 0; i < times; i++) bytes = mutateOnce(bytes, corpus, dictionary, random);
  return bytes.length > MAX_INPUT_BYTES ? bytes.subarray(0, MAX_INPUT_BYTES) : bytes;
}

function mutateOnce(bytes: Buffer, corpus: readonly Buffer[], dictionary: readonly Buffer[], random: Rng): Buffer {
  const at = below(bytes.length + 1, random);
  const length = below(Math.min(64, bytes.length - at) + 1, random);
  switch (below(8, random)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << below(8, random));
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = pick(MEANINGFUL, random);
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at] = below(256, random);
      return bytes;
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4: {
      const piece = bytes.subarray(at, at + length);
      const copies = Array.from({ length: 1 + below(8, random) }, () => piece);
      return Buffer.concat([bytes.subarray(0, at), ...copies, bytes.subarray(at)]);
    }
    case 5: {
      const other = pick(corpus, random);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(below(other.length + 1, random))]);
    }
    case 6:
      if (dictionary.length === 0) return bytes;
      return Buffer.concat([bytes.subarray(0, at), pick(dictionary, random), bytes.subarray(at)]);
    default:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([pick(MEANINGFUL, random)]), bytes.subarray(at)]);
  }
}

/**
 * Runs `use` with a question it may ask: did anything since the last time reach code that nothing reached before? With
 * `again`, what was last reported as new is asked about input by input.
 */
function withCoverage(covers: string, use: (reachedNew: (again?: boolean) => boolean) => void): void {
  const known = new Set<string>();
  let pending = new Set<string>();
  const reached = (): string[] => {
    const { result } = takeCoverage();
    const keys: string[] = [];
    for (const script of result) {
      if (!script.url.includes(covers)) continue;
      for (const { ranges } of script.functions) {
        for (const range of ranges) {
          if (range.count > 0) keys.push(`${script.scriptId}:${range.startOffset}:${range.endOffset}`);
        }
      }
    }
    return keys;
  };
  use((again = false) => {
    const keys = reached();
    if (again) {
      const fresh = keys.filter((key) => pending.has(key));
      for (const key of fresh) pending.delete(key);
      return fresh.length > 0;
    }
    pending = new Set(keys.filter((key) => !known.has(key)));
    for (const key of pending) known.add(key);
    return pending.size > 0;
  });
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
  for (const [i, input] of inputs.entries()) writeFileSync(new URL(`${String(i).padStart(4, "0")}.bin`, folder), input);
}
