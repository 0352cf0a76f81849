import { H, HeaderList, type HeaderName } from "../../core/header.ts";
import type { ByteSink } from "../../core/machine.ts";
import { type Delimiter, isForbiddenTrailer } from "./body.ts";
import { type Entry, FieldMemory } from "./field-memory.ts";
import { parseContentLength } from "./framing.ts";
import { writeLines, writeOwn, writeWithin } from "./octets.ts";

const CRLF = 0x0d0a;
const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
/** Sixteen hexadecimal digits and CR LF. */
const MAX_SIZE_LINE_BYTES = 18;
// Below this, size line, content and line end go into the sink as one piece.
const SMALL_BYTES = 1024;
const HEX = Buffer.from("0123456789abcdef", "latin1");

// Colon and space before a value, CR LF behind it.
const LINE_EXTRA = 4;
const NO_FIELDS = new HeaderList();

const memory = new FieldMemory();

/** Writes heads and trailers, each in one piece or not at all. One object per machine. */
export class LineWriter {
  /** Content-Length among the fields; -1 if there is none. */
  contentLength = -1;
  hasHost = false;
  hasTe = false;
  #fields: HeaderList = NO_FIELDS;
  #keepsUpgrade = false;
  /** Of the field lines, at most. */
  #bytes = 0;
  /** What fields these are, for the memory; 0: not for it. */
  #hash = 0;
  #own = "";
  #ownLines = 0;

  /**
   * Begins a head with these fields. What is meant for one hop only stays out, and so does Content-Length, which the caller
   * adds where the message may have it.
   * @returns What is wrong with the fields, undefined if nothing.
   */
  fields(headers: HeaderList, keepsUpgrade: boolean): string | undefined {
    this.contentLength = -1;
    this.hasHost = false;
    this.hasTe = false;
    this.#own = "";
    this.#ownLines = 0;
    const { names, values } = headers;
    let bytes = 0;
    let hash = 1;
    let isPublic = !keepsUpgrade;
    for (let i = 0; i < names.length; i++) {
      const name = names[i] as HeaderName;
      const value = values[i] as string;
      const { canonical } = name;
      const { length } = value;
      bytes += name.spelled.length + length + LINE_EXTRA;
      if (canonical.isCredential || name.neverIndexed) isPublic = false;
      if (canonical !== H.contentLength) {
        // Identifiers differ in their last char more often than in their first.
        const last = length > 0 ? value.charCodeAt(length - 1) : 0;
        hash = Math.imul(hash ^ (name.spelled.length + (length << 6) + (last << 16)), 0x9e3779b1);
        hash ^= hash >>> 15;
      }
      if (canonical === H.contentLength) {
        const length = parseContentLength(value);
        if (length < 0) return "content-length is not a number";
        if (this.contentLength >= 0 && this.contentLength !== length) return "content-length twice";
        this.contentLength = length;
      } else if (canonical === H.host) {
        if (this.hasHost) return "host twice";
        this.hasHost = true;
      } else if (canonical === H.te) this.hasTe = true;
    }
    this.#fields = headers;
    this.#keepsUpgrade = keepsUpgrade;
    this.#bytes = bytes;
    this.#hash = isPublic ? hash : 0;
    return undefined;
  }

  /** Adds a line of our own behind the fields, with its CR LF. */
  line(text: string): void {
    this.#own += text;
    this.#ownLines++;
  }

  /**
   * Writes the head: a start line of three words (RFC 9112 §3, §4), a line of our own, the fields.
   * @returns false if one of the words or fields holds what may not stand in a line: then nothing was written.
   */
  write(sink: ByteSink, first: string, second: string, third: string, before: string): boolean {
    const { names, values } = this.#fields;
    const known = memory.find(this.#hash, names, values);
    const startBytes = first.length + second.length + third.length + LINE_EXTRA + before.length;
    const at = sink.reserve(startBytes + (known?.fields.length ?? this.#bytes) + this.#own.length + 2);
    const { buffer } = sink;
    const end =
      known === undefined
        ? this.#compose(buffer, at, first, second, third, before)
        : this.#repeat(buffer, at, first, second, third, before, known);
    this.#fields = NO_FIELDS;
    if (end < 0) return false;
    sink.commit(end);
    return true;
  }

  #compose(buffer: Buffer, at: number, first: string, second: string, third: string, before: string): number {
    const { names, values } = this.#fields;
    const start = `${first} ${second} ${third}\r\n${before}`;
    let text = start;
    // The start line, and the empty one.
    let lines = this.#ownLines + (before === "" ? 2 : 3);
    for (let i = 0; i < names.length; i++) {
      const name = names[i] as HeaderName;
      const { canonical } = name;
      if (name.hopByHop ? canonical !== H.upgrade || !this.#keepsUpgrade : canonical === H.contentLength) continue;
      text += `${name.spelled}: ${values[i]}\r\n`;
      lines++;
    }
    const to = at + text.length;
    const end = writeLines(buffer, at, `${text}${this.#own}\r\n`, lines);
    if (end < 0) return end;
    const from = at + start.length;
    // Queries are mostly new, and some carry secrets.
    const isKept = !second.includes("?");
    const entry = memory.keep(this.#hash, names, values, buffer, isKept ? at : from, from, to);
    if (entry === undefined || !isKept) return end;
    entry.first = first;
    entry.second = second;
    entry.third = third;
    entry.before = before;
    return end;
  }

  #repeat(b: Buffer, at: number, first: string, second: string, third: string, before: string, known: Entry): number {
    if (known.begins(first, second, third, before)) {
      const { whole } = known;
      b.set(whole, at);
      return endLine(b, writeOwn(b, at + whole.length, this.#own));
    }
    let end = writeWithin(b, at, first);
    if (end < 0) return -1;
    b[end] = SPACE;
    end = writeWithin(b, end + 1, second);
    if (end < 0) return -1;
    b[end] = SPACE;
    end = writeWithin(b, end + 1, third);
    if (end < 0) return -1;
    end = writeOwn(b, endLine(b, end), before);
    const { fields } = known;
    b.set(fields, end);
    return endLine(b, writeOwn(b, end + fields.length, this.#own));
  }
}

function endLine(buffer: Buffer, at: number): number {
  buffer[at] = CR;
  buffer[at + 1] = LF;
  return at + 2;
}

/** Puts the framing on content. */
export class BodyWriter {
  readonly #sink: ByteSink;
  #delimiter: Delimiter = "none";
  /** Bytes of declared content not written yet. */
  #remaining = 0;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  /** @param length - For `length`: bytes. */
  begin(delimiter: Delimiter, length: number): void {
    this.#delimiter = delimiter;
    this.#remaining = length;
  }

  /** @returns false if that is more than was declared. */
  data(view: Buffer): boolean {
    switch (this.#delimiter) {
      case "none":
        // The answer to HEAD, 204, 304: content is what these do not have (RFC 9110 §6.4.1).
        return true;
      case "length":
        if (view.length > this.#remaining) return false;
        this.#remaining -= view.length;
        this.#sink.append(view);
        return true;
      case "chunked":
        // An empty chunk would be the last one.
        if (view.length > 0) this.#chunk(view);
        return true;
      case "close":
        this.#sink.append(view);
        return true;
      default:
        return this.#delimiter satisfies never;
    }
  }

  /** @returns false if less was written than declared, or a trailer would break the framing. */
  end(trailers: HeaderList | undefined): boolean {
    if (this.#delimiter === "length") return this.#remaining === 0;
    if (this.#delimiter !== "chunked") return true;
    return this.#lastChunk(trailers ?? NO_FIELDS);
  }

  #lastChunk(trailers: HeaderList): boolean {
    const { names, values } = trailers;
    let text = "0\r\n";
    let lines = 2;
    for (let i = 0; i < names.length; i++) {
      const name = names[i] as HeaderName;
      if (isForbiddenTrailer(name.lower)) continue;
      text += `${name.spelled}: ${values[i]}\r\n`;
      lines++;
    }
    text += "\r\n";
    const at = this.#sink.reserve(text.length);
    const end = writeLines(this.#sink.buffer, at, text, lines);
    if (end < 0) return false;
    this.#sink.commit(end);
    return true;
  }

  #chunk(view: Buffer): void {
    const sink = this.#sink;
    const size = view.length;
    const isSmall = size <= SMALL_BYTES;
    let at = sink.reserve(MAX_SIZE_LINE_BYTES + (isSmall ? size + 2 : 0));
    let { buffer } = sink;
    for (let shift = (31 - Math.clz32(size)) & ~3; shift >= 0; shift -= 4) {
      buffer[at++] = HEX[(size >>> shift) & 15] as number;
    }
    at = buffer.writeUInt16BE(CRLF, at);
    if (isSmall) {
      buffer.set(view, at);
      sink.commit(buffer.writeUInt16BE(CRLF, at + size));
      return;
    }
    sink.commit(at);
    sink.append(view);
    at = sink.reserve(2);
    buffer = sink.buffer;
    sink.commit(buffer.writeUInt16BE(CRLF, at));
  }
}
