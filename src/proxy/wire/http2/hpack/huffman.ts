/**
 * RFC 7541 appendix B. The code is canonical: codes of one length are consecutive in symbol order, and longer ones
 * follow shorter ones. So the lengths, symbol 0 to 255 and then EOS, are the whole table.
 */
// biome-ignore format: sixteen symbols a line
const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const EOS = 256;
const MAX_CODE_BITS = 30;

const LENGTHS = Uint8Array.from(CODE_LENGTHS);
const CODES = new Uint32Array(EOS + 1);

/**
 * The decoder's automaton: 256 states (the inner nodes of the code's tree), 16 transitions each, one per half byte.
 * No code is shorter than 5 bits, so a half byte completes at most one symbol. A transition holds the next state in
 * its low byte, a symbol in the second, and flags above. 16 KiB: it stays in the first-level cache.
 */
const TRANSITIONS = new Uint32Array(256 * 16);
const EMITS = 0x1_0000;
const FAILS = 0x2_0000;
/** States in which a string may end: fewer than eight bits since the last symbol, all ones (RFC 7541 §5.2). */
const ACCEPTS = new Uint8Array(256);

build();

function build(): void {
  let code = 0;
  for (let bits = 1; bits <= MAX_CODE_BITS; bits++) {
    for (let symbol = 0; symbol <= EOS; symbol++) if (LENGTHS[symbol] === bits) CODES[symbol] = code++;
    code *= 2;
  }
  // Inner nodes are numbered as they are met; a leaf is its symbol's complement.
  const children = [new Int32Array(2)];
  for (let symbol = 0; symbol <= EOS; symbol++) {
    const length = LENGTHS[symbol] as number;
    let node = 0;
    for (let bit = length - 1; bit >= 0; bit--) {
      const pair = children[node] as Int32Array;
      const branch = ((CODES[symbol] as number) >>> bit) & 1;
      if (bit === 0) pair[branch] = ~symbol;
      else if (pair[branch] === 0) {
        node = children.push(new Int32Array(2)) - 1;
        pair[branch] = node;
      } else node = pair[branch] as number;
    }
  }
  for (let state = 0; state < children.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++) TRANSITIONS[state * 16 + nibble] = transition(children, state, nibble);
  }
  for (let ones = 0, node = 0; ones < 8; ones++) {
    ACCEPTS[node] = 1;
    node = children[node]?.[1] as number;
  }
}

function transition(children: readonly Int32Array[], state: number, nibble: number): number {
  let node = state;
  let symbol = 0;
  for (let bit = 3; bit >= 0; bit--) {
    node = children[node]?.[(nibble >>> bit) & 1] as number;
    if (node >= 0) continue;
    // RFC 7541 §5.2: a string that contains EOS is an error.
    if (~node === EOS) return FAILS;
    symbol = EMITS | (~node << 8);
    node = 0;
  }
  return symbol | node;
}

/** The shortest code has five bits: room for what `bytes` of Huffman text decode to. */
export function huffmanDecodedBound(bytes: number): number {
  return Math.floor((bytes * 8) / 5);
}

/**
 * Decodes Huffman text (RFC 7541 §5.2).
 *
 * @param out - Has room for {@link huffmanDecodedBound} bytes.
 * @returns the number of bytes written to `out`, or -1 if the text contains EOS or ends in wrong padding.
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number, out: Uint8Array): number {
  let state = 0;
  let length = 0;
  let failed = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    const high = TRANSITIONS[state * 16 + (byte >>> 4)] as number;
    if (high & EMITS) out[length++] = high >>> 8;
    const low = TRANSITIONS[(high & 0xff) * 16 + (byte & 15)] as number;
    if (low & EMITS) out[length++] = low >>> 8;
    failed |= high | low;
    state = low & 0xff;
  }
  return failed & FAILS || ACCEPTS[state] === 0 ? -1 : length;
}

/** Bytes that a latin1 text needs in Huffman code. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i)] as number;
  return (bits + 7) >>> 3;
}

/**
 * Writes a latin1 text in Huffman code.
 * @returns where the next byte goes.
 */
export function encodeHuffman(text: string, buffer: Buffer, at: number): number {
  let pending = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    let length = LENGTHS[symbol] as number;
    const code = CODES[symbol] as number;
    // At most 7 bits are pending: a code of more than 24 goes in two pieces, so that 32 bits suffice.
    if (length > 24) {
      const upper = length - 16;
      pending = (pending << upper) | (code >>> 16);
      bits += upper;
      while (bits >= 8) {
        bits -= 8;
        buffer[at++] = pending >>> bits;
      }
      length = 16;
    }
    pending = (pending << length) | (code & ((1 << length) - 1));
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      buffer[at++] = pending >>> bits;
    }
  }
  // RFC 7541 §5.2: padded with the first bits of EOS, all ones.
  if (bits > 0) buffer[at++] = (pending << (8 - bits)) | (0xff >>> bits);
  return at;
}
