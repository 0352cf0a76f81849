import { type HeaderName, headerName, HeaderName as Name } from "../../../core/header.ts";
import { connectionError, ErrorCode } from "../errors.ts";
import type { HeaderBlock } from "./block.ts";
import { BlockMemory } from "./block-memory.ts";
import { DynamicTable } from "./dynamic-table.ts";
import { ENTRY_OVERHEAD_BYTES, Field, type FieldKind, fieldKind, MALFORMED_NAME, Pseudo, valueFault } from "./field.ts";
import { decodeHuffman, huffmanDecodedBound } from "./huffman.ts";
import { decodeIntegerRest, integerEnd } from "./integer.ts";
import { readLatin1 } from "./latin1.ts";
import { OCTET_CLASSES, Octet } from "./octets.ts";
import { STATIC_LENGTH, STATIC_TABLE } from "./static-table.ts";

/** RFC 9113 §6.5.2: what both sides start with. */
export const DEFAULT_TABLE_BYTES = 4096;

// RFC 7541 §4.2: at most two, the smallest size since the last block and the final one.
const MAX_SIZE_UPDATES = 2;

const PSEUDO_NAMES: ReadonlyMap<string, HeaderName> = new Map(Object.values(Pseudo).map((name) => [name.lower, name]));

/** Twins of interned names that carry the request never to be indexed; as bounded as the interning. */
const NEVER_INDEXED = new WeakMap<HeaderName, HeaderName>();

// Huffman text is decoded here before it becomes a string. Used and left within one call.
let decoded = Buffer.allocUnsafe(1024);

/**
 * Decodes header blocks (RFC 7541 §3) against one connection's table. Fields that repeat cost no string work: entries
 * keep the interned name, the value as text, and the verdict on both.
 */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #memory = new BlockMemory();
  readonly #maxTableSize: number;
  /** The integer, string or name read last, and where its encoding ended. */
  #at = 0;
  #text = "";
  #classes = 0;

  /** @param maxTableSize - SETTINGS_HEADER_TABLE_SIZE as we announce it, in bytes. */
  constructor(maxTableSize: number) {
    this.#maxTableSize = maxTableSize;
    // The peer fills at most 4,096 until it has seen a larger offer; it says so in a size update.
    this.#table = new DynamicTable(Math.min(maxTableSize, DEFAULT_TABLE_BYTES));
  }

  /** RFC 7541 §4.1, in bytes. */
  get tableSize(): number {
    return this.#table.size;
  }

  /**
   * Decodes one whole block into `block`.
   *
   * @throws ProtocolError COMPRESSION_ERROR: the two tables have parted, the connection is lost. A field that is only
   *   malformed is noted in the block.
   */
  decode(bytes: Buffer, start: number, end: number, block: HeaderBlock): void {
    const table = this.#table;
    const known = this.#memory.find(bytes, start, end, table.version);
    if (known !== undefined) return block.copy(known);
    block.reset();
    let at = this.#sizeUpdates(bytes, start, end);
    let fields = 0;
    for (; at < end; fields++) {
      const byte = bytes[at] as number;
      if (byte >= 0x80) {
        // RFC 7541 §6.1: indexed field.
        let index = byte & 0x7f;
        if (index === 0x7f) {
          index = this.#integer(bytes, at, end, 0x7f);
          at = this.#at;
        } else at++;
        const field = this.#field(index);
        block.add(field.name, field.value, field.kind, field.fault, field.size);
      } else if (byte >= 0x40) {
        at = this.#literal(bytes, at, end, 0x3f, true, false, block);
      } else if (byte >= 0x20) {
        throw broken("§4.2", "table size update inside a block");
      } else {
        at = this.#literal(bytes, at, end, 0x0f, false, byte >= 0x10, block);
      }
    }
    // A literal, a size update and a large index take more than one octet.
    if (fields === end - start) this.#memory.keep(bytes, start, end, table.version, block);
  }

  #sizeUpdates(bytes: Buffer, start: number, end: number): number {
    let at = start;
    for (let count = 1; at < end && ((bytes[at] as number) & 0xe0) === 0x20; count++) {
      const size = this.#integer(bytes, at, end, 0x1f);
      at = this.#at;
      // RFC 7541 §6.3: beyond what we announced.
      if (size > this.#maxTableSize) throw broken("§6.3", "table size update beyond the announced size");
      if (count > MAX_SIZE_UPDATES) throw broken("§4.2", "more than two table size updates");
      this.#table.resize(size);
    }
    return at;
  }

  /** RFC 7541 §6.2: a literal, with its name by index or as text. */
  #literal(
    bytes: Buffer,
    start: number,
    end: number,
    prefixMask: number,
    indexing: boolean,
    neverIndexed: boolean,
    block: HeaderBlock,
  ): number {
    const index = this.#integer(bytes, start, end, prefixMask);
    let name: HeaderName;
    let nameLength: number;
    let kind: FieldKind;
    if (index === 0) {
      this.#string(bytes, this.#at, end);
      nameLength = this.#text.length;
      name = this.#name();
      kind = fieldKind(name);
    } else {
      const field = this.#field(index);
      name = field.name;
      nameLength = field.size - field.value.length - ENTRY_OVERHEAD_BYTES;
      kind = field.kind;
    }
    this.#string(bytes, this.#at, end);
    const value = this.#text;
    const fault = valueFault(kind, value, this.#classes);
    const size = nameLength + value.length + ENTRY_OVERHEAD_BYTES;
    if (indexing) this.#table.add(new Field(name, value, kind, fault, size));
    else if (neverIndexed) name = twin(name);
    block.add(name, value, kind, fault, size);
    return this.#at;
  }

  #field(index: number): Field {
    const field = index <= STATIC_LENGTH ? STATIC_TABLE[index] : this.#table.get(index - STATIC_LENGTH - 1);
    if (field === undefined) throw broken("§2.3.3", "index beyond the tables");
    return field;
  }

  /** The name that was just read as text. */
  #name(): HeaderName {
    const text = this.#text;
    if (this.#classes & Octet.notLowerToken || text === "") return PSEUDO_NAMES.get(text) ?? MALFORMED_NAME;
    return headerName(text) ?? MALFORMED_NAME;
  }

  /** RFC 7541 §5.1, from the byte with the prefix. Leaves the end in #at. */
  #integer(bytes: Buffer, at: number, end: number, prefixMask: number): number {
    if (at >= end) throw broken("§5.1", "block ends inside a field");
    const prefix = (bytes[at] as number) & prefixMask;
    if (prefix < prefixMask) {
      this.#at = at + 1;
      return prefix;
    }
    const rest = decodeIntegerRest(bytes, at + 1, end);
    if (rest === -1) throw broken("§5.1", "block ends inside an integer");
    if (rest === -2) throw broken("§5.1", "integer too large");
    this.#at = integerEnd(bytes, at + 1);
    return prefixMask + rest;
  }

  /** RFC 7541 §5.2. Leaves the text in #text, the classes of its octets in #classes, the end in #at. */
  #string(bytes: Buffer, start: number, end: number): void {
    const length = this.#integer(bytes, start, end, 0x7f);
    const from = this.#at;
    const to = from + length;
    if (to > end) throw broken("§5.2", "block ends inside a string");
    this.#at = to;
    if ((bytes[start] as number) & 0x80) {
      const bound = huffmanDecodedBound(length);
      if (bound > decoded.length) decoded = Buffer.allocUnsafe(bound);
      const size = decodeHuffman(bytes, from, to, decoded);
      if (size < 0) throw broken("§5.2", "malformed Huffman text");
      this.#take(decoded, 0, size);
    } else this.#take(bytes, from, to);
  }

  #take(bytes: Buffer, start: number, end: number): void {
    let classes = 0;
    for (let i = start; i < end; i++) classes |= OCTET_CLASSES[bytes[i] as number] as number;
    this.#classes = classes;
    this.#text = readLatin1(bytes, start, end);
  }
}

function twin(name: HeaderName): HeaderName {
  const known = NEVER_INDEXED.get(name.canonical);
  if (known !== undefined) return known;
  const made = new Name(name.spelled, name.lower, name.canonical, name.hopByHop);
  made.neverIndexed = true;
  made.staticIndex = name.staticIndex;
  NEVER_INDEXED.set(name.canonical, made);
  return made;
}

function broken(section: string, message: string): Error {
  return connectionError(ErrorCode.compressionError, `RFC 7541 ${section}`, message);
}
