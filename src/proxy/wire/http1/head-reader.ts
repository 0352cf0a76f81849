import type { ProtocolError } from "../../core/errors.ts";
import { Backlog } from "./backlog.ts";
import { countControls } from "./controls.ts";
import { hasForbidden, hasForbiddenInPart } from "./fields.ts";
import { latin1Slice } from "./latin1.ts";
import type { Http1Limits } from "./limits.ts";
import { refuse } from "./refuse.ts";

const CR = 0x0d;
const LF = 0x0a;
const END = "\r\n\r\n";
const END_BYTES: Buffer = Buffer.from(END, "latin1");
// Most heads are shorter. What is cut out of the text keeps all of it in memory, so not the whole chunk.
const FIRST_LOOK_BYTES = 2048;
// RFC 9112 §2.2 asks servers to ignore at least one empty line before a request; old clients send one after a POST.
const MAX_BLANK_LINES = 4;

/**
 * Finds where a head ends, over any number of reads. Only a head that is split over reads is copied.
 *
 * After {@link read}, `error` is set, or {@link text} holds the head up to and including the empty line (and maybe bytes
 * after it), or the head goes on.
 */
export class HeadReader {
  /** The head as latin1; undefined while it is incomplete. */
  text: string | undefined = undefined;
  /** Offset in {@link text} just behind the CR LF of the last field line, where the empty line begins. */
  end = 0;
  error: ProtocolError | undefined = undefined;
  readonly #limits: Http1Limits;
  /** Requests may follow empty lines and are refused with what a server says; responses are not. */
  readonly #isRequest: boolean;
  readonly #partial = new Backlog();
  #blankLines = 0;
  #controls = 0;

  constructor(limits: Http1Limits, isRequest: boolean) {
    this.#limits = limits;
    this.#isRequest = isRequest;
  }

  /** Part of a head is there. */
  get isPartial(): boolean {
    return this.#partial.length > 0;
  }

  /** Forgets the head before. */
  reset(): void {
    this.text = undefined;
    this.#blankLines = 0;
    this.#partial.clear();
  }

  /** Takes bytes of `chunk` from `at`. @returns The offset behind the last one taken. */
  read(chunk: Buffer, at: number): number {
    if (this.isPartial) return this.#readOn(chunk, at);
    const { maxHeadBytes } = this.#limits;
    const from = this.#isRequest ? this.#skipBlankLines(chunk, at) : at;
    if (this.error !== undefined || from === chunk.length) return chunk.length;
    const text = latin1Slice(chunk, from, Math.min(from + FIRST_LOOK_BYTES, chunk.length));
    const end = text.indexOf(END);
    if (end >= 0) {
      this.#finish(text, end + 2, chunk, from);
      return from + end + END.length;
    }
    if (chunk.length - from > FIRST_LOOK_BYTES) {
      const later = chunk.indexOf(END_BYTES, from + FIRST_LOOK_BYTES - END.length);
      if (later >= 0 && later + END.length - from <= maxHeadBytes) {
        this.#finish(latin1Slice(chunk, from, later + END.length), later + 2 - from, chunk, from);
        return later + END.length;
      }
    }
    return this.#keep(chunk, from);
  }

  /** Whether the line ends of the head are its only control characters, HTAB apart. */
  isClean(lines: number): boolean {
    return this.#controls === lines * 2 || !hasForbidden((this.text as string).slice(0, this.end));
  }

  #finish(text: string, end: number, bytes: Buffer, from: number): void {
    this.text = text;
    this.end = end;
    this.#controls = countControls(bytes, from, from + end);
  }

  #readOn(chunk: Buffer, at: number): number {
    const partial = this.#partial;
    const before = partial.length;
    if (before === 1 && this.#isRequest && partial.bytes[0] === CR) {
      // An empty line may have been split in the middle.
      partial.append(chunk, at, chunk.length);
      const joined = partial.take();
      return this.read(joined, 0) - joined.length + chunk.length;
    }
    const to = Math.min(chunk.length, at + this.#limits.maxHeadBytes - before);
    partial.append(chunk, at, to);
    const bytes = partial.bytes;
    const end = bytes.indexOf(END_BYTES, Math.max(0, before - END.length + 1));
    if (end < 0) {
      this.#judge(bytes, before);
      return to;
    }
    this.#finish(latin1Slice(bytes, 0, end + END.length), end + 2, bytes, 0);
    partial.clear();
    return at + end + END.length - before;
  }

  #keep(chunk: Buffer, from: number): number {
    const to = Math.min(chunk.length, from + this.#limits.maxHeadBytes);
    this.#partial.append(chunk, from, to);
    this.#judge(this.#partial.bytes, 0);
    return to;
  }

  /** A head that can only be refused is refused now, not when the time for it is over. */
  #judge(bytes: Buffer, before: number): void {
    const code = this.#isRequest ? 400 : 502;
    // An LF whose CR came before is good.
    const from = before > 0 && bytes[before] === LF && bytes[before - 1] === CR ? before + 1 : before;
    if (hasForbiddenInPart(latin1Slice(bytes, from, bytes.length))) {
      this.error = refuse(code, "RFC 9112 §2.2", "control character in the head");
    } else if (bytes.length >= this.#limits.maxHeadBytes) {
      if (!this.#isRequest) {
        this.error = refuse(502, "RFC 6585 §5", "head too large");
        return;
      }
      const line = bytes.indexOf(LF);
      this.error =
        line < 0 || line > this.#limits.maxTargetBytes
          ? refuse(414, "RFC 9110 §15.5.15", "request target too long")
          : refuse(431, "RFC 6585 §5", "head too large");
    }
  }

  #skipBlankLines(chunk: Buffer, at: number): number {
    let from = at;
    while (chunk[from] === CR && chunk[from + 1] === LF) {
      from += 2;
      if (++this.#blankLines > MAX_BLANK_LINES) {
        this.error = refuse(400, "RFC 9112 §2.2", "empty lines instead of a request");
        return from;
      }
    }
    return from;
  }
}
