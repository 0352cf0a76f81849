import { H, type HeaderList } from "../../core/header.ts";
import type { ByteSink } from "../../core/machine.ts";
import { type Delimiter, isForbiddenTrailer } from "./body.ts";
import { countControls } from "./controls.ts";
import { hasForbidden } from "./fields.ts";
import { parseContentLength } from "./framing.ts";
import { latin1Slice, latin1Write } from "./latin1.ts";

const CRLF = 0x0d0a;
/** Sixteen hexadecimal digits and CR LF. */
const MAX_SIZE_LINE_BYTES = 18;
// Below this, size line, content and line end go into the sink as one piece.
const SMALL_BYTES = 1024;
const HEX = Buffer.from("0123456789abcdef", "latin1");

// Chars that are no bytes: cut to eight bits U+010A would be a line end, and every other one somebody else's letter. On
// text of one-byte chars this is decided without looking at them.
const NO_BYTE = /[^\0-\xff]/;

/** The fields of a head as text, collected by {@link FieldWriter.add}. One object per machine. */
export class FieldWriter {
  /** Field lines, each with CR LF. */
  text = "";
  /** How many lines that are. */
  lines = 0;
  /** Content-Length among the fields; -1 if there is none. */
  contentLength = -1;
  hasHost = false;
  hasTe = false;

  /**
   * Formats a list of fields. What is meant for one hop only stays out, and so does Content-Length, which the caller
   * adds where the message may have it.
   * @returns What is wrong with the fields, undefined if nothing.
   */
  format(headers: HeaderList, keepUpgrade: boolean): string | undefined {
    this.contentLength = -1;
    this.hasHost = false;
    this.hasTe = false;
    const { names, values } = headers;
    let text = "";
    let lines = 0;
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      if (name === undefined) continue;
      const { canonical } = name;
      if (name.hopByHop) {
        if (canonical !== H.upgrade || !keepUpgrade) continue;
      } else if (canonical === H.contentLength) {
        const length = parseContentLength(values[i] as string);
        if (length < 0) return "content-length is not a number";
        if (this.contentLength >= 0 && this.contentLength !== length) return "content-length twice";
        this.contentLength = length;
        continue;
      } else if (canonical === H.host) {
        if (this.hasHost) return "host twice";
        this.hasHost = true;
      } else if (canonical === H.te) this.hasTe = true;
      text += `${name.spelled}: ${values[i]}\r\n`;
      lines++;
    }
    this.text = text;
    this.lines = lines;
    return undefined;
  }

  line(text: string): void {
    this.text += text;
    this.lines++;
  }
}

/**
 * Writes a whole head, or trailers, in one piece.
 * @param lines - Lines in `text`, the empty one included.
 * @returns false if there are others, or characters that are forbidden or no bytes: nothing was written. Whoever put a value together from
 *   parts must not thereby be able to begin another message.
 */
export function writeLines(sink: ByteSink, text: string, lines: number): boolean {
  if (NO_BYTE.test(text)) return false;
  const at = sink.reserve(text.length);
  const { buffer } = sink;
  const end = latin1Write(buffer, text, at);
  if (countControls(buffer, at, end) !== lines * 2) {
    const written = latin1Slice(buffer, at, end);
    if (hasForbidden(written) || written.split("\n").length !== lines + 1) return false;
  }
  sink.commit(end);
  return true;
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
    let text = "0\r\n";
    let lines = 2;
    if (trailers !== undefined) {
      const { names, values } = trailers;
      for (let i = 0; i < names.length; i++) {
        const name = names[i];
        if (name === undefined || isForbiddenTrailer(name.lower)) continue;
        text += `${name.spelled}: ${values[i]}\r\n`;
        lines++;
      }
    }
    text += "\r\n";
    return writeLines(this.#sink, text, lines);
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
      view.copy(buffer, at);
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
