import { HeaderBlock } from "./block.ts";

// By length: what a server says before and behind its answers are two blocks.
const SLOTS = 4;
// So many fields has what comes often.
const MAX_BYTES = 32;

class Entry {
  readonly bytes = new Uint8Array(MAX_BYTES);
  length = 0;
  /** Of the table that the block was decoded with. */
  version = 0;
  /** Undefined until it comes a second time. */
  block: HeaderBlock | undefined;
}

/**
 * Blocks that came before on this connection and are nothing but indices of one octet each (RFC 7541 §6.1): as long as
 * the table is the same they say the same. Most answers and most calls of one method are such a block, and their fields
 * need not be looked up one by one.
 */
export class BlockMemory {
  readonly #entries: (Entry | undefined)[] = [undefined, undefined, undefined, undefined];

  /** @returns What bytes [start, end) were decoded to; undefined if that is not known. */
  find(bytes: Buffer, start: number, end: number, version: number): HeaderBlock | undefined {
    const entry = this.#entries[(end - start) & (SLOTS - 1)];
    return entry?.block !== undefined && isSame(entry, bytes, start, end, version) ? entry.block : undefined;
  }

  /** Remembers a block of which every octet is an index, if it came before. */
  keep(bytes: Buffer, start: number, end: number, version: number, block: HeaderBlock): void {
    const length = end - start;
    if (length > MAX_BYTES || block.fault !== undefined || block.oversized) return;
    this.#entries[length & (SLOTS - 1)] ??= new Entry();
    const entry = this.#entries[length & (SLOTS - 1)] as Entry;
    if (isSame(entry, bytes, start, end, version)) {
      entry.block = new HeaderBlock(Number.POSITIVE_INFINITY);
      entry.block.copy(block);
      return;
    }
    entry.block = undefined;
    entry.length = length;
    entry.version = version;
    for (let i = 0; i < length; i++) entry.bytes[i] = bytes[start + i] as number;
  }
}

function isSame(entry: Entry, bytes: Buffer, start: number, end: number, version: number): boolean {
  const known = entry.bytes;
  const { length } = entry;
  if (length !== end - start || entry.version !== version) return false;
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
