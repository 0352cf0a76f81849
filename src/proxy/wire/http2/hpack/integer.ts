/** Room an encoded integer may need: a prefix byte and five of seven bits each for 32 bits. */
export const MAX_INTEGER_BYTES = 6;

/**
 * Writes an integer (RFC 7541 §5.1) behind the bits `high` of its first byte.
 *
 * @param prefixMask - The largest value of the prefix: 2^N - 1.
 * @returns where the next byte goes.
 */
export function encodeInteger(buffer: Buffer, at: number, high: number, prefixMask: number, value: number): number {
  if (value < prefixMask) {
    buffer[at] = high | value;
    return at + 1;
  }
  buffer[at++] = high | prefixMask;
  let rest = value - prefixMask;
  while (rest >= 0x80) {
    buffer[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}

/**
 * Reads the bytes of an integer that follow a full prefix (RFC 7541 §5.1).
 *
 * @returns the sum of the continuation, at most 2^28 - 1; -1 if it goes beyond `end`; -2 if it is larger or padded
 *   with more zeros than any honest encoder writes. {@link integerEnd} tells where it ends.
 */
export function decodeIntegerRest(bytes: Buffer, at: number, end: number): number {
  let value = 0;
  // Four bytes carry 28 bits: more than any string or index within our bounds.
  for (let shift = 0; shift < 28; shift += 7) {
    if (at >= end) return -1;
    const byte = bytes[at++] as number;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return -2;
}

/** Where the continuation bytes at `at` end, once {@link decodeIntegerRest} has accepted them. */
export function integerEnd(bytes: Buffer, at: number): number {
  while ((bytes[at] as number) >= 0x80) at++;
  return at + 1;
}
