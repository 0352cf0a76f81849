import { H, type HeaderName } from "../../core/header.ts";

// Kinds of messages that a worker writes all the time; more of them only make it miss.
const SLOTS = 64;
// Longer ones are rare, and would be kept.
const MAX_BYTES = 1024;

const NOTHING = Buffer.alloc(0);

/** Field lines that were written before, and what stood in front of them then. */
export class Entry {
  /** Of the fields seen last: what comes twice is remembered. */
  seen = 0;
  /** Of the fields that are remembered. */
  hash = 0;
  names: readonly HeaderName[] = [];
  values: readonly string[] = [];
  /** The field lines, and with them the start line and a line of our own. */
  fields: Buffer = NOTHING;
  whole: Buffer = NOTHING;
  /** The start line's words, and that line of our own; the first is empty if only fields are remembered. */
  first = "";
  second = "";
  third = "";
  before = "";

  /** Whether {@link whole} begins with these. */
  begins(first: string, second: string, third: string, before: string): boolean {
    return this.second === second && this.third === third && this.first === first && this.before === before;
  }
}

/**
 * Field lines that were written before, as bytes. Clients that call one thing again and again, and what answers them, say
 * the same in every head: then its lines are copied and not put together and judged anew, a twentieth of a small request.
 * Content-Length is not part of them. Whoever has credentials in a head does not ask. An answer's status line is mostly the
 * same, too.
 */
export class FieldMemory {
  readonly #entries: Entry[] = Array.from({ length: SLOTS }, () => new Entry());

  /** @param hash - Of names and values, as the caller likes; 0 is never found. */
  find(hash: number, names: readonly HeaderName[], values: readonly string[]): Entry | undefined {
    const entry = this.#entries[hash & (SLOTS - 1)] as Entry;
    if (hash === 0 || entry.hash !== hash || entry.names.length !== names.length) return undefined;
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      if (name !== entry.names[i]) return undefined;
      if (values[i] !== entry.values[i] && name?.canonical !== H.contentLength) return undefined;
    }
    return entry;
  }

  /**
   * Remembers fields that were seen before, and the start line in front of them.
   * @param start - Where what is to be remembered begins in `buffer`.
   * @param from - Where the fields begin in it.
   * @returns Their new entry, for the caller to say what stands in front of them; undefined if they are not remembered.
   */
  keep(
    hash: number,
    names: readonly HeaderName[],
    values: readonly string[],
    buffer: Buffer,
    start: number,
    from: number,
    to: number,
  ): Entry | undefined {
    const entry = this.#entries[hash & (SLOTS - 1)] as Entry;
    if (hash === 0 || to - start > MAX_BYTES) return undefined;
    if (entry.seen !== hash) {
      entry.seen = hash;
      return undefined;
    }
    entry.hash = hash;
    entry.names = names.slice();
    entry.values = values.slice();
    entry.whole = Buffer.from(buffer.subarray(start, to));
    entry.fields = entry.whole.subarray(from - start);
    entry.first = "";
    return entry;
  }
}
