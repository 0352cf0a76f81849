/*
 * Decoding 5,000 endpoints at once keeps a thread from everything else for 20 ms and more. A long `add` or `remove` is
 * therefore cut, as bytes, into updates of a few endpoints each, which are decoded one after the other.
 */

// Wire types of protobuf.
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** Endpoints in a part. */
export const PART = 100;
// Of two parts' addresses; what is shorter is decoded as it is, without a look.
const SHORT_BYTES = 2 * PART * 8;

/**
 * Cuts a `destination.Update` whose `add` or `remove` is long into several that together say the same; each repeats the
 * labels of the set.
 * @returns undefined: short, of another kind, or not to be understood; decode it whole.
 * @see linkerd2-proxy-api proto/destination.proto: Update.add = 1, .remove = 2, WeightedAddrSet.addrs = 1,
 *   .metric_labels = 2, AddrSet.addrs = 1
 */
export function splitUpdate(bytes: Buffer): Buffer[] | undefined {
  if (bytes.length <= SHORT_BYTES) return undefined;
  const outer = new Fields(bytes);
  if (!outer.next() || (outer.number !== 1 && outer.number !== 2) || outer.type !== LENGTH) return undefined;
  const set = bytes.subarray(outer.valueStart, outer.end);
  // Anything beside the one field is for the real decoder to judge.
  if (outer.end !== bytes.length) return undefined;
  const labels: Buffer[] = [];
  const addresses: Buffer[] = [];
  const fields = new Fields(set);
  while (fields.next()) {
    const field = set.subarray(fields.start, fields.end);
    (fields.number === 1 ? addresses : labels).push(field);
  }
  if (fields.isBroken || addresses.length <= 2 * PART) return undefined;
  const parts: Buffer[] = [];
  for (let i = 0; i < addresses.length; i += PART) {
    const content = Buffer.concat([...labels, ...addresses.slice(i, i + PART)]);
    parts.push(Buffer.concat([Buffer.from([(outer.number << 3) | LENGTH]), varint(content.length), content]));
  }
  return parts;
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
