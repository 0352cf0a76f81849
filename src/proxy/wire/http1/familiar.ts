import { H, HeaderList, type HeaderName, headerName } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { Lent } from "../../core/machine.ts";
import { controlsIn } from "./controls.ts";
import type { Framing } from "./framing.ts";
import { isHost } from "./head.ts";
import { latin1Slice } from "./latin1.ts";
import type { Http1Limits } from "./limits.ts";
import { isLasting, NAME_SLOTS, nameSlot } from "./name.ts";

/*
 * Most heads are made of lines that came before: the same fields in the same order, most with the same values. Comparing
 * four bytes at a time where they were read costs a third of what making text of them and looking for its parts does, which
 * is a tenth of a small request. Whatever is not plain here is left to `head.ts`, which alone refuses.
 */

const CR = 0x0d;
const LF = 0x0a;
const TAB = 0x09;
const SPACE = 0x20;
const HASH = 0x23;
const COLON = 0x3a;
const SLASH = 0x2f;
const DEL = 0x7f;
const DIGIT_0 = 0x30;

// Four bytes each, in the order of x86 and ARM.
const GET = word("GET ");
const POST = word("POST");
const HTTP = word("HTTP");
const SLASH_1_1 = word("/1.1");
const SPACE_HTT = word(" HTT");
const P_SLASH_1_DOT = word("P/1.");
const ONE_CR_LF = word("1\r\n\0");
const THREE_BYTES = 0xffffff;

// As `HeaderName` remembers values.
const MAX_VALUE_BYTES = 64;
const MAX_NAME_BYTES = 64;
const MAX_TARGET_BYTES = 96;
// A line and the word behind it may be looked at although they were not read: there must be memory.
const MAX_LINE_BYTES = 256;
// One text holds all values of a head that are new; what is cut out of it keeps it.
const TEXT_BYTES = 2048;

const TARGET_SLOTS = 64;
// Of what differs from what is remembered every eighth is remembered instead.
const EVERY = 7;

function word(text: string): number {
  return Buffer.from(text, "latin1").readInt32LE(0);
}

/** Bytes to compare with. */
class Line {
  length = 0;
  #words = new Int32Array(1);
  #whole = 0;
  #mask = 0;

  set(text: string): void {
    const { length } = text;
    const words = new Int32Array((length >> 2) + 1);
    Buffer.from(words.buffer).write(text, "latin1");
    this.#words = words;
    this.#whole = length >> 2;
    this.#mask = (1 << ((length & 3) << 3)) - 1;
    this.length = length;
  }

  /** @returns How many bytes at `at` are the line's, in steps of four; {@link length} if all are. */
  agrees(view: DataView, at: number): number {
    const words = this.#words;
    const whole = this.#whole;
    let i = 0;
    while (i < whole && view.getInt32(at + (i << 2), true) === words[i]) i++;
    if (i < whole) return i << 2;
    const rest = view.getInt32(at + (whole << 2), true) ^ (words[whole] as number);
    return (rest & this.#mask) === 0 ? this.length : whole << 2;
  }

  byteAt(at: number): number {
    return ((this.#words[at >> 2] as number) >>> ((at & 3) << 3)) & 0xff;
  }
}

/** A field line, as the one seen last or with no value yet. */
class FieldLine extends Line {
  readonly name: HeaderName;
  value = "";
  /** Of name, colon and space. */
  readonly prefix: number;
  /** What came behind it last. */
  next: FieldLine | undefined = undefined;

  constructor(name: HeaderName) {
    super();
    this.name = name;
    this.prefix = name.spelled.length + 2;
    this.set(`${name.spelled}: \r\n`);
  }

  learn(value: string): void {
    this.value = value;
    this.set(`${this.name.spelled}: ${value}\r\n`);
  }
}

class RequestLine extends Line {
  readonly method: string;
  readonly target: string;

  constructor(method: string, target: string) {
    super();
    this.method = method;
    this.target = target;
    this.set(`${method} ${target} HTTP/1.1\r\n`);
  }
}

class StatusLine extends Line {
  reason = "";
  misses = 0;

  learn(status: number, reason: string): void {
    this.reason = reason;
    this.set(`HTTP/1.1 ${status} ${reason}\r\n`);
  }
}

const fieldLines: (FieldLine | undefined)[] = new Array(NAME_SLOTS).fill(undefined);
const requestLines: (RequestLine | undefined)[] = new Array(TARGET_SLOTS).fill(undefined);
/** Targets seen once: what comes twice is remembered. */
const requestHashes = new Int32Array(TARGET_SLOTS);
const statusLines: StatusLine[] = Array.from({ length: 400 }, () => new StatusLine());

/** What stands before the first field. */
const start = { request: new FieldLine(H.host), response: new FieldLine(H.host) };

/** Reads heads of familiar lines. One object per machine. */
export class FamiliarReader {
  /** Offset behind the head that was read. */
  end = 0;
  readonly #limits: Http1Limits;
  /** What is new in this head, as text; "" until something is. */
  #text = "";
  #textFrom = 0;

  constructor(limits: Http1Limits) {
    this.#limits = limits;
  }

  /**
   * Reads a request head that begins at the first byte, and what it says about framing into `framing`.
   * @returns undefined if it is for `head.ts` to read: incomplete, unusual or wrong.
   */
  request(lent: Lent, length: number, framing: Framing): RequestHead | undefined {
    const { bytes, view } = lent;
    if (length + MAX_LINE_BYTES > view.byteLength) return undefined;
    const head = view.getInt32(0, true);
    const isGet = head === GET;
    const from = isGet ? 4 : 5;
    if (!isGet && (head !== POST || bytes[4] !== SPACE)) return undefined;
    if (bytes[from] !== SLASH) return undefined;
    let to = from + 1;
    for (let byte = bytes[to] as number; byte > SPACE && byte < DEL && byte !== HASH; byte = bytes[to] as number) to++;
    if (to + 11 > length || to > this.#limits.maxTargetBytes) return undefined;
    if (view.getInt32(to, true) !== SPACE_HTT || view.getInt32(to + 4, true) !== P_SLASH_1_DOT) return undefined;
    if ((view.getInt32(to + 8, true) & THREE_BYTES) !== ONE_CR_LF) return undefined;

    const method = isGet ? "GET" : "POST";
    const path = to === from + 1 ? "/" : target(lent, method, from, to);
    const headers = new HeaderList();
    if (!this.#fields(lent, to + 11, length, headers, start.request)) return undefined;
    if (framing.read(headers, false, 400) !== undefined) return undefined;
    const { host } = framing;
    if (host === undefined || (host !== "" && !isHost(host))) return undefined;
    const authority = host === "" ? undefined : host;
    return { method, scheme: "http", authority, path, form: "origin", version: "1.1", headers, protocol: undefined };
  }

  /** The same for a final response. */
  response(lent: Lent, length: number, framing: Framing): ResponseHead | undefined {
    const { bytes, view } = lent;
    if (length + MAX_LINE_BYTES > view.byteLength) return undefined;
    if (view.getInt32(0, true) !== HTTP || view.getInt32(4, true) !== SLASH_1_1) return undefined;
    if (bytes[8] !== SPACE || bytes[12] !== SPACE) return undefined;
    const hundreds = (bytes[9] as number) - DIGIT_0;
    const tens = (bytes[10] as number) - DIGIT_0;
    const ones = (bytes[11] as number) - DIGIT_0;
    if (hundreds < 2 || hundreds > 5 || tens < 0 || tens > 9 || ones < 0 || ones > 9) return undefined;
    const status = hundreds * 100 + tens * 10 + ones;
    const line = statusLines[status - 200] as StatusLine;
    let at = line.length;
    let { reason } = line;
    if (at === 0 || line.agrees(view, 0) !== at) {
      const to = textEnd(lent, 13);
      at = to + 2;
      if (at > length || bytes[to] !== CR || bytes[to + 1] !== LF) return undefined;
      reason = latin1Slice(bytes, 13, to);
      if (reason.length <= MAX_VALUE_BYTES && (line.length === 0 || (++line.misses & EVERY) === 0)) {
        line.learn(status, reason);
      }
    }
    const headers = new HeaderList();
    if (!this.#fields(lent, at, length, headers, start.response)) return undefined;
    if (framing.read(headers, false, 502) !== undefined) return undefined;
    return { status, version: "1.1", headers, reason };
  }

  /** Reads fields up to and including the empty line. @returns false if they are not for here. */
  #fields(lent: Lent, from: number, length: number, headers: HeaderList, before: FieldLine): boolean {
    const isRead = this.#lines(lent, from, length, headers, before);
    // An idle connection keeps nothing of what it said.
    if (this.#text !== "") this.#text = "";
    return isRead;
  }

  #lines(lent: Lent, from: number, length: number, headers: HeaderList, before: FieldLine): boolean {
    const { bytes, view } = lent;
    const { maxFields, maxHeadBytes } = this.#limits;
    let at = from;
    let last = before;
    while (bytes[at] !== CR) {
      if (at >= length || headers.length >= maxFields) return false;
      let line = last.next;
      let agreed = line === undefined ? 0 : line.agrees(view, at);
      if (line === undefined || (agreed < line.length && !isNamed(bytes, at, agreed, line))) {
        line = find(bytes, at, length);
        if (line === undefined) return false;
        last.next = line;
        agreed = line.agrees(view, at);
      }
      if (agreed === line.length) {
        headers.add(line.name, line.value);
        at += agreed;
      } else {
        at = this.#newValue(lent, at, length, line, headers);
      }
      if (at > length) return false;
      last = line;
    }
    this.end = at + 2;
    return bytes[at + 1] === LF && this.end <= length && this.end <= maxHeadBytes;
  }

  /** @returns The offset behind the line; beyond all that was read if that is no field line, or not all of one. */
  #newValue(lent: Lent, at: number, length: number, line: FieldLine, headers: HeaderList): number {
    const { bytes } = lent;
    let from = at + line.prefix - 1;
    while (bytes[from] === SPACE || bytes[from] === TAB) from++;
    const end = textEnd(lent, from);
    if (end + 2 > length || bytes[end] !== CR || bytes[end + 1] !== LF) return bytes.length;
    let to = end;
    while (to > from && (bytes[to - 1] === SPACE || bytes[to - 1] === TAB)) to--;
    const value = line.name.remembered(this.#slice(bytes, from, to, length));
    if (value === line.name.recent && value !== line.value) line.learn(value);
    headers.add(line.name, value);
    return end + 2;
  }

  #slice(bytes: Buffer, from: number, to: number, length: number): string {
    if (this.#text === "") {
      this.#textFrom = from;
      this.#text = latin1Slice(bytes, from, Math.min(from + TEXT_BYTES, length));
    }
    const at = from - this.#textFrom;
    const end = to - this.#textFrom;
    return end <= this.#text.length ? this.#text.slice(at, end) : latin1Slice(bytes, from, to);
  }
}

/** The name of `line` and a colon stand at `at`, whose first `known` bytes are the line's. */
function isNamed(bytes: Buffer, at: number, known: number, line: FieldLine): boolean {
  for (let i = known; i < line.prefix - 1; i++) if (bytes[at + i] !== line.byteAt(i)) return false;
  return true;
}

/** The line of the field that begins at `at`. */
function find(bytes: Buffer, at: number, end: number): FieldLine | undefined {
  let colon = at;
  for (let byte = bytes[colon] as number; byte > SPACE && byte < DEL && byte !== COLON; byte = bytes[colon] as number) {
    colon++;
  }
  const length = colon - at;
  if (colon >= end || bytes[colon] !== COLON || length === 0 || length > MAX_NAME_BYTES) return undefined;
  const middle = bytes[at + (length >> 1)] as number;
  const slot = nameSlot(length, bytes[at] as number, middle, bytes[colon - 1] as number);
  const seen = fieldLines[slot];
  if (seen !== undefined && seen.prefix === length + 2 && isNamed(bytes, at, 0, seen)) return seen;
  const name = headerName(latin1Slice(bytes, at, colon));
  // What is dropped is not for here.
  if (name === undefined || name.isLookalike || !isLasting(name)) return undefined;
  const line = new FieldLine(name);
  fieldLines[slot] = line;
  return line;
}

/** The target [from, to), which the same method came with before if it is remembered. */
function target(lent: Lent, method: string, from: number, to: number): string {
  const { bytes, view } = lent;
  if (to - from > MAX_TARGET_BYTES) return latin1Slice(bytes, from, to);
  const hash = Math.imul(view.getInt32(to - 4, true) ^ (to << 24), 0x9e3779b1) ^ view.getInt32(to >> 1, true);
  const slot = (hash ^ (hash >>> 15)) & (TARGET_SLOTS - 1);
  const seen = requestLines[slot];
  if (seen !== undefined && seen.length === to + 11 && seen.agrees(view, 0) === seen.length) return seen.target;
  const text = latin1Slice(bytes, from, to);
  // Queries are mostly new, and some carry secrets.
  if (requestHashes[slot] !== hash) requestHashes[slot] = hash;
  else if (!text.includes("?")) requestLines[slot] = new RequestLine(method, text);
  return text;
}

/** Where text that may stand in a field value ends: the offset of the first control character that is no HTAB. */
function textEnd(lent: Lent, from: number): number {
  const { bytes, view } = lent;
  const last = view.byteLength - 4;
  let at = from;
  while (at <= last && controlsIn(view.getInt32(at, true)) === 0) at += 4;
  let byte = bytes[at];
  while (byte !== undefined && (byte >= SPACE ? byte !== DEL : byte === TAB)) byte = bytes[++at];
  return at;
}
