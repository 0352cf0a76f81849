import type { ProtocolError } from "../../core/errors.ts";
import { H, HeaderList } from "../../core/header.ts";
import { Backlog } from "./backlog.ts";
import { hasForbidden, parseFields } from "./fields.ts";
import { latin1Slice } from "./latin1.ts";
import type { Http1Limits } from "./limits.ts";
import { refuse } from "./refuse.ts";

const CR = 0x0d;
const LF = 0x0a;
const TAB = 0x09;
const SP = 0x20;
const SEMICOLON = 0x3b;
const TRAILER_END: Buffer = Buffer.from("\r\n\r\n", "latin1");

/** How a message's content is delimited (RFC 9112 §6.3). */
export type Delimiter = "none" | "length" | "chunked" | "close";

/*
 * length:   content ── remaining = 0 ──► end
 * close:    content ── the peer's half-close, known to the machine only
 *
 * chunked:  first ─hex─► size ─hex─► size ──────── CR ───► sizeEnd ─LF─► data (size > 0) ──► dataCr ─CR─► dataLf ─LF─► first
 *                          ├─ SP, TAB ─► blank ─";"─┐         ▲  └─LF─► trailer (size = 0)
 *                          └─ ";" ──────────► extension ─CR───┘           ├─ CR ─► trailerEnd ─LF─► end
 *                                                                         └─ else ─► fields ── empty line ──► end
 *
 * A size line that ends in LF alone, signs, "0x", blanks around a size: refused (RFC 9112 §7.1, and §11.2 for why).
 */
type State =
  | "content"
  | "first"
  | "size"
  | "blank"
  | "extension"
  | "sizeEnd"
  | "data"
  | "dataCr"
  | "dataLf"
  | "trailer"
  | "trailerEnd"
  | "fields"
  | "end";

/**
 * Takes the framing off content, one step at a time: after {@link step}, bytes [`dataFrom`, `dataTo`) of the chunk are
 * content if that is not empty, and {@link isEnd} or {@link error} may be set.
 */
export class BodyReader {
  dataFrom = 0;
  dataTo = 0;
  error: ProtocolError | undefined = undefined;
  /** Trailers without those that {@link isForbiddenTrailer} drops; undefined if there was no trailer section. */
  trailers: HeaderList | undefined = undefined;
  readonly #limits: Http1Limits;
  readonly #code: number;
  #state: State = "end";
  #untilClose = false;
  /** Bytes left of the content or of the chunk. */
  #remaining = 0;
  #digits = 0;
  #extensionBytes = 0;
  readonly #fields = new Backlog();

  /** @param code - The status that a refusal carries: 400 or 502. */
  constructor(limits: Http1Limits, code: number) {
    this.#limits = limits;
    this.#code = code;
  }

  get isEnd(): boolean {
    return this.#state === "end";
  }

  /** The content lasts until the connection ends. */
  get isUntilClose(): boolean {
    return this.#untilClose;
  }

  /** @param length - For `length`: bytes, more than 0. */
  begin(delimiter: Exclude<Delimiter, "none">, length: number): void {
    this.#state = delimiter === "chunked" ? "first" : "content";
    this.#untilClose = delimiter === "close";
    this.#remaining = length;
    this.#digits = 0;
    this.#extensionBytes = 0;
    this.trailers = undefined;
    this.#fields.clear();
  }

  /** Takes bytes of `chunk` from `at`, which must not be its end. @returns The offset behind the last one taken. */
  step(chunk: Buffer, at: number): number {
    this.dataFrom = 0;
    this.dataTo = 0;
    switch (this.#state) {
      case "content":
        if (!this.#untilClose) return this.#takeData(chunk, at, "end");
        this.dataFrom = at;
        this.dataTo = chunk.length;
        return chunk.length;
      case "data":
        return this.#takeData(chunk, at, "dataCr");
      case "fields":
        return this.#takeFields(chunk, at);
      case "end":
        return at;
      default:
        return this.#takeFraming(chunk, at);
    }
  }

  #takeData(chunk: Buffer, at: number, next: State): number {
    const to = Math.min(chunk.length, at + this.#remaining);
    this.#remaining -= to - at;
    if (this.#remaining === 0) this.#state = next;
    this.dataFrom = at;
    this.dataTo = to;
    return to;
  }

  #takeFraming(chunk: Buffer, from: number): number {
    let at = from;
    while (at < chunk.length) {
      const byte = chunk[at] as number;
      switch (this.#state) {
        case "first":
          if (!this.#addDigit(byte)) return this.#fail("chunk size is not a number");
          this.#state = "size";
          break;
        case "size":
          if (byte === CR) this.#state = "sizeEnd";
          else if (byte === SEMICOLON) this.#state = "extension";
          else if (byte === SP || byte === TAB) this.#state = "blank";
          else if (!this.#addDigit(byte)) return this.#fail("chunk size is not a number");
          break;
        case "blank":
          // RFC 9112 §7.1.1 has blanks before an extension only.
          if (byte === SEMICOLON) this.#state = "extension";
          else if (byte !== SP && byte !== TAB) return this.#fail("blanks after a chunk size");
          if (!this.#countExtension()) return at;
          break;
        case "extension":
          if (byte === CR) this.#state = "sizeEnd";
          else if ((byte < SP && byte !== TAB) || byte === 0x7f)
            return this.#fail("control character in a chunk extension");
          if (!this.#countExtension()) return at;
          break;
        case "sizeEnd":
          if (byte !== LF) return this.#fail("CR without LF after a chunk size");
          this.#digits = 0;
          if (this.#remaining > 0) {
            this.#state = "data";
            return at + 1;
          }
          this.#state = "trailer";
          break;
        case "dataCr":
          if (byte !== CR) return this.#fail("chunk is longer than its size");
          this.#state = "dataLf";
          break;
        case "dataLf":
          if (byte !== LF) return this.#fail("CR without LF after a chunk");
          this.#state = "first";
          break;
        case "trailer":
          if (byte !== CR) {
            this.#state = "fields";
            return at;
          }
          this.#state = "trailerEnd";
          break;
        case "trailerEnd":
          if (byte !== LF) return this.#fail("CR without LF after the last chunk");
          this.#state = "end";
          return at + 1;
        default:
          return at;
      }
      at++;
    }
    return at;
  }

  #addDigit(byte: number): boolean {
    let digit = byte - 0x30;
    if (digit < 0 || digit > 9) {
      digit = (byte | 0x20) - 0x61 + 10;
      if (digit < 10 || digit > 15) return false;
    }
    if (this.#digits === 0) this.#remaining = 0;
    // 16 digits are 64 bits. What is beyond 2^53 - 1 cannot be counted here, and nobody sends it.
    this.#remaining = this.#remaining * 16 + digit;
    return ++this.#digits <= 16 && Number.isSafeInteger(this.#remaining);
  }

  #countExtension(): boolean {
    if (++this.#extensionBytes <= this.#limits.maxExtensionBytes) return true;
    this.#fail("chunk extensions too long");
    return false;
  }

  #takeFields(chunk: Buffer, at: number): number {
    const fields = this.#fields;
    const { maxTrailerBytes } = this.#limits;
    const before = fields.length;
    const to = Math.min(chunk.length, at + maxTrailerBytes - before);
    fields.append(chunk, at, to);
    const { bytes } = fields;
    const end = bytes.indexOf(TRAILER_END, Math.max(0, before - TRAILER_END.length + 1));
    if (end < 0) {
      if (hasBareLf(bytes, before)) return this.#fail("LF without CR in trailers");
      if (bytes.length >= maxTrailerBytes) this.error = refuse(this.#tooLarge, "RFC 6585 §5", "trailers too large");
      return to;
    }
    this.#parseTrailers(latin1Slice(bytes, 0, end + 2));
    fields.clear();
    this.#state = "end";
    return at + end + TRAILER_END.length - before;
  }

  #parseTrailers(text: string): void {
    if (hasForbidden(text)) {
      this.#fail("control character in trailers");
      return;
    }
    const all = new HeaderList();
    this.error = parseFields(text, 0, text.length, all, this.#limits.maxFields, this.#code, this.#tooLarge);
    if (this.error !== undefined) return;
    const kept = new HeaderList();
    for (let i = 0; i < all.length; i++) {
      const name = all.names[i];
      if (name !== undefined && !isForbiddenTrailer(name.lower)) kept.add(name, all.values[i] as string);
    }
    this.trailers = kept;
  }

  get #tooLarge(): number {
    return this.#code === 400 ? 431 : this.#code;
  }

  /** @returns An offset, for the caller's return statement. */
  #fail(message: string): number {
    this.error = refuse(this.#code, "RFC 9112 §7.1", message);
    return 0;
  }
}

function hasBareLf(bytes: Buffer, from: number): boolean {
  for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (at === 0 || bytes[at - 1] !== CR) return true;
  }
  return false;
}

const FORBIDDEN_TRAILERS: ReadonlySet<string> = new Set([
  H.connection.lower,
  H.contentLength.lower,
  H.host.lower,
  H.keepAlive.lower,
  H.proxyConnection.lower,
  H.te.lower,
  H.trailer.lower,
  H.transferEncoding.lower,
  H.upgrade.lower,
  "authorization",
]);

/**
 * Whether a field, named in lower case, must not be in trailers: what frames, routes or names the client is settled
 * before the content, and careless servers merge trailers into the head (RFC 9110 §6.5.1). They are dropped.
 */
export function isForbiddenTrailer(lower: string): boolean {
  return FORBIDDEN_TRAILERS.has(lower) || lower.startsWith("l5d-");
}
