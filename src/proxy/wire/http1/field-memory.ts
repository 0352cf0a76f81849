import { H, type HeaderName } from "../../core/header.ts";

// Kinds of messages that a worker writes all the time; more of them only make it miss.
const SLOTS = 64;
// Longer ones are rare, and would be kept.
const MAX_BYTES = 1024;

interface Entry {
  /** Of the fields seen last: what comes twice is remembered. */
  seen: number;
  /** Of the fields that are remembered. */
  hash: number;
  names: readonly HeaderName[];
  values: readonly string[];
  bytes: Buffer;
}

/**
 * Field lines that were written before, as bytes. Clients that call one thing again and again, and what answers them, say
 * the same in every head: then its lines are copied and not put together and judged anew, a twentieth of a small request.
 * Content-Length is not part of them. Whoever has credentials in a head does not ask.
 */
export class FieldMemory {
  readonly #entries: Entry[] = Array.from({ length: SLOTS }, () => ({
    seen: 0,
    hash: 0,
    names: [],
    values: [],
    bytes: Buffer.alloc(0),
  }));

  /** @param hash - Of names and values, as the caller likes; 0 is never found. */
  find(hash: number, names: readonly HeaderName[], values: readonly string[]): Buffer | undefined {
    const entry = this.#entries[hash & (SLOTS - 1)] as Entry;
    if (hash === 0 || entry.hash !== hash || entry.names.length !== names.length) return undefined;
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      if (name !== entry.names[i]) return undefined;
      if (values[i] !== entry.values[i] && name?.canonical !== H.contentLength) return undefined;
    }
    return entry.bytes;
  }

  /** Keeps what stands in `buffer` from `from` up to `to`, if it was seen before. */
  keep(
    hash: number,
    names: readonly HeaderName[],
    values: readonly string[],
    buffer: Buffer,
    from: number,
    to: number,
  ) {
    const entry = this.#entries[hash & (SLOTS - 1)] as Entry;
    if (hash === 0 || to - from > MAX_BYTES) return;
    if (entry.seen !== hash) {
      entry.seen = hash;
      return;
    }
    const bytes = Buffer.allocUnsafeSlow(to - from);
    buffer.copy(bytes, 0, from, to);
    entry.hash = hash;
    entry.names = names.slice();
    entry.values = values.slice();
    entry.bytes = bytes;
  }
}
