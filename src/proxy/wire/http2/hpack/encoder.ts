import { H, type HeaderName, headerName } from "../../../core/header.ts";
import { DEFAULT_TABLE_BYTES } from "./decoder.ts";
import { ENTRY_OVERHEAD_BYTES, Pseudo } from "./field.ts";
import { encodeHuffman, huffmanLength } from "./huffman.ts";
import { encodeInteger, MAX_INTEGER_BYTES } from "./integer.ts";
import { writeLatin1 } from "./latin1.ts";
import { STATIC_LENGTH, STATIC_TABLE } from "./static-table.ts";

/** Room for two table size updates at the head of a block. */
const SIZE_UPDATES_BYTES = 2 * MAX_INTEGER_BYTES;
/** Room a field needs beyond its text: an integer each for index or name length and value length, and a first byte. */
const FIELD_OVERHEAD_BYTES = 2 * MAX_INTEGER_BYTES + 1;

// Larger values would push a tenth of the table out for one field.
const MAX_INDEXED_VALUE_BYTES = 400;
// Names met beyond this are sent, but their values are not learned: a stranger chooses names freely.
const MAX_LEARNED_NAMES = 128;
// So many entries of a name may be missed in a row before its values count as ever-changing.
const MAX_MISSES = 4;
// How many of a name's latest values are compared; more costs longer than sending the literal.
const MAX_COMPARED = 8;
// RFC 7541 §7.1.3 and nghttp2: a short cookie can be guessed octet by octet through the table's size.
const MIN_INDEXED_COOKIE_BYTES = 20;

const COOKIE = known("cookie");
const NEVER_INDEXED: ReadonlySet<HeaderName> = new Set([known("authorization"), known("proxy-authorization")]);
/** Mostly another value in each message: indexed only once a value has been seen before. */
const VOLATILE: ReadonlySet<HeaderName> = new Set([
  Pseudo.path,
  H.contentLength,
  H.date,
  H.location,
  H.l5dClientId,
  ...["age", "etag", "expires", "grpc-timeout", "if-modified-since", "if-none-match", "last-modified"].map(known),
  ...["set-cookie", "traceparent", "tracestate", "x-request-id", "x-b3-spanid", "x-b3-traceid"].map(known),
]);

function known(lower: string): HeaderName {
  return headerName(lower) as HeaderName;
}

/** An entry of the peer's table, found by its name or by what was sent before it. */
class Entry {
  readonly name: HeaderName;
  readonly value: string;
  readonly learned: Learned;
  /** How many entries were made before this one; without meaning for {@link fixed} ones. */
  readonly serial: number;
  readonly size: number;
  /** Index in the static table, 0 for an entry of the dynamic one. */
  readonly fixed: number;
  older: Entry | undefined;
  /** The entry that was sent after this one last time. */
  next: Entry | undefined = undefined;

  constructor(
    name: HeaderName,
    value: string,
    learned: Learned,
    serial: number,
    size: number,
    fixed: number,
    older: Entry | undefined,
  ) {
    this.name = name;
    this.value = value;
    this.learned = learned;
    this.serial = serial;
    this.size = size;
    this.fixed = fixed;
    this.older = older;
  }
}

/** What is known about one name on this connection. */
class Learned {
  readonly volatile: boolean;
  newest: Entry | undefined;
  /** The entry of the static table that was sent last. */
  fixed: Entry | undefined;
  /** Entries made since one was last of use. */
  misses = 0;
  /** Values sent as literals lately, of an ever-changing name. */
  recent0 = "";
  recent1 = "";

  constructor(volatile: boolean) {
    this.volatile = volatile;
  }
}

/**
 * Encodes header blocks (RFC 7541 §6) for one connection. Repeating fields become one or two bytes; values that change
 * with every message are sent as they are, so that they do not push the others out of the table.
 *
 * Messages of one connection resemble each other: each entry remembers which one followed it, so that a field that
 * comes as expected is found by two comparisons and no look-up.
 *
 * Use: {@link begin}, then {@link field} per field, into room of {@link bound} bytes.
 */
export class HpackEncoder {
  readonly #learned = new Map<HeaderName, Learned>();
  /** The table, oldest first, from #head. */
  readonly #entries: Entry[] = [];
  #head = 0;
  #serial = 0;
  /** The serial of the oldest entry in the table. */
  #oldest = 0;
  #size = 0;
  #maxSize = DEFAULT_TABLE_BYTES;
  /** The smallest size since the last block, -1 if it did not change (RFC 7541 §4.2). */
  #smallest = -1;
  readonly #limit: number;
  /** What comes before the first entry of every block. */
  readonly #start = new Entry(Pseudo.status, "", new Learned(true), 0, 0, 0, undefined);
  /** The entry sent last in this block. */
  #last: Entry = this.#start;

  /** @param limit - Bound of the table whatever the peer allows, in bytes. */
  constructor(limit: number = DEFAULT_TABLE_BYTES) {
    this.#limit = limit;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  resize(bytes: number): void {
    const size = Math.min(bytes, this.#limit);
    if (size === this.#maxSize && this.#smallest === -1) return;
    this.#smallest = this.#smallest === -1 ? size : Math.min(this.#smallest, size);
    this.#maxSize = size;
    this.#evictTo(size);
  }

  /** Room that fields with `textBytes` of names and values in total may need. */
  bound(fields: number, textBytes: number): number {
    return SIZE_UPDATES_BYTES + textBytes + fields * FIELD_OVERHEAD_BYTES;
  }

  /** Begins a block at `at` with the table size updates that are due. */
  begin(buffer: Buffer, at: number): number {
    this.#last = this.#start;
    if (this.#smallest === -1) return at;
    if (this.#smallest < this.#maxSize) at = encodeInteger(buffer, at, 0x20, 0x1f, this.#smallest);
    this.#smallest = -1;
    return encodeInteger(buffer, at, 0x20, 0x1f, this.#maxSize);
  }

  /**
   * Writes one field. `name` is written in lower case, pseudo-headers by their {@link Pseudo} name.
   * @returns where the next one goes.
   */
  field(buffer: Buffer, at: number, name: HeaderName, value: string): number {
    const expected = this.#last.next;
    if (expected !== undefined && expected.name === name.canonical && expected.value === value && !name.neverIndexed) {
      if (expected.fixed > 0) {
        this.#last = expected;
        buffer[at] = 0x80 | expected.fixed;
        return at + 1;
      }
      if (expected.serial >= this.#oldest) {
        this.#last = expected;
        expected.learned.misses = 0;
        return encodeInteger(buffer, at, 0x80, 0x7f, STATIC_LENGTH + this.#serial - expected.serial);
      }
    }
    return this.#find(buffer, at, name, value);
  }

  #find(buffer: Buffer, at: number, name: HeaderName, value: string): number {
    const key = name.canonical;
    const learned = this.#learned.get(key) ?? this.#learn(key);
    if (name.neverIndexed) return this.#literal(buffer, at, 0x10, 0x0f, key, learned, value, false);
    if (learned === undefined) {
      const high = isSecret(key, value) ? 0x10 : 0x00;
      return this.#literal(buffer, at, high, 0x0f, key, learned, value, false);
    }
    let entry = learned.newest;
    for (let compared = 0; entry !== undefined && compared < MAX_COMPARED; compared++) {
      if (entry.serial < this.#oldest) {
        if (compared === 0) learned.newest = undefined;
        break;
      }
      if (entry.value === value) {
        learned.misses = 0;
        this.#follow(entry);
        return encodeInteger(buffer, at, 0x80, 0x7f, STATIC_LENGTH + this.#serial - entry.serial);
      }
      entry = entry.older;
    }
    return this.#miss(buffer, at, key, learned, value);
  }

  #follow(entry: Entry): void {
    this.#last.next = entry;
    this.#last = entry;
  }

  #miss(buffer: Buffer, at: number, key: HeaderName, learned: Learned, value: string): number {
    const fixed = fixedIndex(key, value);
    if (fixed > 0) {
      if (learned.fixed?.fixed !== fixed) learned.fixed = new Entry(key, value, learned, 0, 0, fixed, undefined);
      this.#follow(learned.fixed);
      return encodeInteger(buffer, at, 0x80, 0x7f, fixed);
    }
    if (isSecret(key, value)) return this.#literal(buffer, at, 0x10, 0x0f, key, learned, value, false);
    const size = key.lower.length + value.length + ENTRY_OVERHEAD_BYTES;
    if (value.length > MAX_INDEXED_VALUE_BYTES || size > this.#maxSize || !worthIndexing(learned, value)) {
      return this.#literal(buffer, at, 0x00, 0x0f, key, learned, value, false);
    }
    // The literal may name an older entry, so it is written before that one can be evicted for the new one.
    const end = this.#literal(buffer, at, 0x40, 0x3f, key, learned, value, true);
    this.#insert(key, learned, value, size);
    return end;
  }

  #literal(
    buffer: Buffer,
    at: number,
    high: number,
    prefixMask: number,
    key: HeaderName,
    learned: Learned | undefined,
    value: string,
    once: boolean,
  ): number {
    let index = key.staticIndex;
    if (index === 0 && learned?.newest !== undefined && this.#isAlive(learned.newest)) {
      index = STATIC_LENGTH + this.#serial - learned.newest.serial;
    }
    at = encodeInteger(buffer, at, high, prefixMask, index);
    if (index === 0) at = writeText(buffer, at, key.lower, true);
    return writeText(buffer, at, value, once);
  }

  #learn(key: HeaderName): Learned | undefined {
    if (this.#learned.size >= MAX_LEARNED_NAMES) return undefined;
    const learned = new Learned(VOLATILE.has(key));
    this.#learned.set(key, learned);
    return learned;
  }

  #insert(key: HeaderName, learned: Learned, value: string, size: number): void {
    this.#evictTo(this.#maxSize - size);
    const older = learned.newest !== undefined && this.#isAlive(learned.newest) ? learned.newest : undefined;
    const entry = new Entry(key, value, learned, this.#serial++, size, 0, older);
    learned.newest = entry;
    this.#entries.push(entry);
    this.#size += size;
    this.#follow(entry);
  }

  #isAlive(entry: Entry): boolean {
    return entry.serial >= this.#oldest;
  }

  #evictTo(size: number): void {
    const entries = this.#entries;
    while (this.#size > size && this.#head < entries.length) {
      const entry = entries[this.#head++] as Entry;
      this.#size -= entry.size;
      this.#oldest++;
      // So that an entry that is still referred to keeps no chain of dead ones.
      entry.older = undefined;
      entry.next = undefined;
    }
    if (this.#head === entries.length) {
      entries.length = 0;
      this.#head = 0;
    } else if (this.#head >= 64 && this.#head * 2 >= entries.length) {
      entries.copyWithin(0, this.#head);
      entries.length -= this.#head;
      this.#head = 0;
    }
  }
}

/** The index of a field that the static table has whole, 0 if it has not. */
function fixedIndex(key: HeaderName, value: string): number {
  // An empty value there mostly stands for the name alone.
  if (value === "") return 0;
  // Pseudo-headers have up to seven values, one after the other; of the rest only accept-encoding has one.
  for (let i = key.staticIndex; i > 0 && i <= STATIC_LENGTH; i++) {
    const field = STATIC_TABLE[i];
    if (field?.name !== key) return 0;
    if (field.value === value) return i;
  }
  return 0;
}

function isSecret(key: HeaderName, value: string): boolean {
  return NEVER_INDEXED.has(key) || (key === COOKIE && value.length < MIN_INDEXED_COOKIE_BYTES);
}

/** A value of an ever-changing name is worth an entry once it comes a second time. */
function worthIndexing(learned: Learned, value: string): boolean {
  if (!learned.volatile && learned.misses < MAX_MISSES) {
    learned.misses++;
    return true;
  }
  if (learned.recent0 === value || learned.recent1 === value) return true;
  learned.recent1 = learned.recent0;
  learned.recent0 = value;
  return false;
}

/**
 * RFC 7541 §5.2. Huffman code only for what is sent `once` and then referred to: a quarter fewer bytes are not worth the
 * time where it is paid with every message.
 */
function writeText(buffer: Buffer, at: number, text: string, once: boolean): number {
  if (once) {
    const length = huffmanLength(text);
    if (length < text.length) return encodeHuffman(text, buffer, encodeInteger(buffer, at, 0x80, 0x7f, length));
  }
  at = encodeInteger(buffer, at, 0x00, 0x7f, text.length);
  return writeLatin1(buffer, at, text);
}
