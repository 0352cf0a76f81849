import type { Rng } from "../../src/proxy/core/clock.ts";

const MAX_INPUT_BYTES = 16_384;
// Most faults need few bytes, and short inputs are many per second.
const USUAL_INPUT_BYTES = 1_024;
const MEANINGFUL = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x20, 0x09, 0x3a, 0x30, 0x2f];

/** A new input: one of the corpus, changed in one to six places. What came last into the corpus is taken more often. */
export function mutate(corpus: readonly Buffer[], dictionary: readonly Buffer[], random: Rng): Buffer {
  const recent = Math.min(corpus.length, 16);
  const from = random() < 0.3 ? (corpus[corpus.length - 1 - below(recent, random)] as Buffer) : pick(corpus, random);
  let bytes: Buffer = Buffer.from(from);
  for (let i = below(6, random); i >= 0; i--) bytes = mutateOnce(bytes, corpus, dictionary, random);
  const limit = random() < 0.95 ? USUAL_INPUT_BYTES : MAX_INPUT_BYTES;
  return bytes.length > limit ? bytes.subarray(0, limit) : bytes;
}

/** Whole, in two at any offset, or octet by octet at the beginning. */
export function split(input: Buffer, random: Rng): Buffer[] {
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

function mutateOnce(bytes: Buffer, corpus: readonly Buffer[], dictionary: readonly Buffer[], random: Rng): Buffer {
  const at = below(bytes.length + 1, random);
  const length = below(Math.min(64, bytes.length - at) + 1, random);
  switch (below(9, random)) {
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
      // Lengths are counted up and down, so that a frame is one too short or too long.
      if (at < bytes.length) bytes[at] = (bytes[at] as number) + (random() < 0.5 ? 1 : -1);
      return bytes;
    case 7:
      if (dictionary.length === 0) return bytes;
      return Buffer.concat([bytes.subarray(0, at), pick(dictionary, random), bytes.subarray(at)]);
    default:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([pick(MEANINGFUL, random)]), bytes.subarray(at)]);
  }
}

function below(limit: number, random: Rng): number {
  return Math.floor(random() * limit);
}

function pick<T>(of: readonly T[], random: Rng): T {
  return of[below(of.length, random)] as T;
}
