/*
 * Decoding 5,000 endpoints at once keeps a thread from everything else for 20 ms and more. A long `add` is therefore
 * cut, as bytes, into updates of a few endpoints each, which are decoded one after the other.
 */

// Wire types of protobuf.
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** Some 250 endpoints; shorter messages are decoded as they are. */
export const PART_BYTES = 48 * 1024;

/**
 * Cuts a `destination.Update` whose `add` is long into several whose `add`s together say the same; each repeats the
 * labels of the set.
 * @returns undefined: short, of another kind, or not to be understood; decode it whole.
 * @see linkerd2-proxy-api proto/destination.proto: Update.add = 1, WeightedAddrSet.addrs = 1, .metric_labels = 2
 */
export function splitUpdate(bytes: Buffer): Buffer[] | undefined {
  if (bytes.length <= 2 * PART_BYTES) return undefined;
  const outer = new Fields(bytes);
  if (!outer.next() || outer.number !== 1 || outer.type !== LENGTH) return undefined;
  const set = bytes.subarray(outer.valueStart, outer.end);
  // Anything beside the one field is for the real decoder to judge.
  if (outer.end !== bytes.length) return undefined;
  const labels: Buffer[] = [];
  const groups: Buffer[][] = [[]];
  let groupBytes = 0;
  const fields = new Fields(set);
  while (fields.next()) {
    const field = set.subarray(fields.start, fields.end);
    if (fields.number !== 1) {
      labels.push(field);
      continue;
    }
    if (groupBytes >= PART_BYTES) {
      groups.push([]);
      groupBytes = 0;
    }
    groups.at(-1)?.push(field);
    groupBytes += field.length;
  }
  if (fields.isBroken) return undefined;
  return groups.map((group) => {
    const content = Buffer.concat([...labels, ...group]);
    return Buffer.concat([Buffer.from([(1 << 3) | LENGTH]), varint(content.length), content]);
  });
}

/** Walks over the fields of a message without looking into them. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;
  isBroken = false;
  number = 0;
  type = 0;
  start = 0;
  valueStart = 0;
  end = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  next(): boolean {
    if (this.isBroken || this.#at >= this.#bytes.length) return false;
    this.start = this.#at;
    const tag = this.#varint();
    this.number = Math.floor(tag / 8);
    this.type = tag % 8;
    this.valueStart = this.#at;
    switch (this.type) {
      case VARINT:
        this.#varint();
        break;
      case FIXED64:
        this.#at += 8;
        break;
      case LENGTH: {
        const length = this.#varint();
        this.valueStart = this.#at;
        this.#at += length;
        break;
      }
      case FIXED32:
        this.#at += 4;
        break;
      default:
        this.isBroken = true;
    }
    if (this.#at > this.#bytes.length) this.isBroken = true;
    this.end = this.#at;
    return !this.isBroken;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || scale > 2 ** 63) {
        this.isBroken = true;
        return 0;
      }
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) {
      bytes.push(rest);
      return Buffer.from(bytes);
    }
    bytes.push((rest % 128) | 0x80);
  }
}
