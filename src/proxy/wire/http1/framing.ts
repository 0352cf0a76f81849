import type { ProtocolError } from "../../core/errors.ts";
import { H, type HeaderList } from "../../core/header.ts";
import { refuse } from "./refuse.ts";

/** What the fields of one head say about the message and the connection. One object per machine, filled anew per head. */
export class Framing {
  /** Content-Length; -1 if there is none. */
  contentLength = -1;
  /** Transfer-Encoding is `chunked`. */
  chunked = false;
  /** Value of the only Host field. */
  host: string | undefined = undefined;
  /** Connection says `close` / `keep-alive`. */
  close = false;
  keepAlive = false;

  /**
   * Reads Content-Length, Transfer-Encoding, Connection and Host. Whatever two readers could understand in two ways is
   * refused rather than repaired (RFC 9112 §6.3, §11.2).
   *
   * @param code - The status that a refusal carries: 400 or 502.
   */
  read(headers: HeaderList, isHttp10: boolean, code: number): ProtocolError | undefined {
    this.contentLength = -1;
    this.chunked = false;
    this.host = undefined;
    this.close = false;
    this.keepAlive = false;
    const { names, values } = headers;
    for (let i = 0; i < names.length; i++) {
      const name = names[i]?.canonical;
      if (name === H.contentLength) {
        if (this.contentLength >= 0) return refuse(code, "RFC 9112 §6.3", "more than one Content-Length");
        this.contentLength = parseContentLength(values[i] as string);
        if (this.contentLength < 0) return refuse(code, "RFC 9112 §6.3", "Content-Length is not a number");
      } else if (name === H.host) {
        if (this.host !== undefined) return refuse(code, "RFC 9112 §3.2", "more than one Host");
        this.host = values[i] as string;
      } else if (name === H.transferEncoding) {
        if (this.chunked) return refuse(code, "RFC 9112 §6.1", "more than one Transfer-Encoding");
        // RFC 9112 §6.1 knows other codings before a final chunked. They would have to be undone here, because the field
        // ends at this hop; nobody sends them but those who hope that two readers disagree.
        if ((values[i] as string).toLowerCase() !== "chunked") {
          return refuse(code, "RFC 9112 §6.1", "Transfer-Encoding is not chunked");
        }
        this.chunked = true;
      } else if (name === H.connection) {
        const error = this.#readConnection(values[i] as string, code);
        if (error !== undefined) return error;
      }
    }
    if (this.chunked) {
      // RFC 9112 §6.1: both lengths are an attempt to smuggle or a bug; a 1.0 peer does not know the field at all.
      if (this.contentLength >= 0) return refuse(code, "RFC 9112 §6.3", "Content-Length beside Transfer-Encoding");
      if (isHttp10) return refuse(code, "RFC 9112 §6.1", "Transfer-Encoding in HTTP/1.0");
    }
    return undefined;
  }

  #readConnection(value: string, code: number): ProtocolError | undefined {
    switch (value) {
      case "close":
        this.close = true;
        return undefined;
      case "keep-alive":
        this.keepAlive = true;
        return undefined;
      default:
    }
    for (const option of value.split(",")) {
      switch (option.trim().toLowerCase()) {
        case "close":
          this.close = true;
          break;
        case "keep-alive":
          this.keepAlive = true;
          break;
        case "host":
        case "content-length":
        case "transfer-encoding":
          // Ours: a peer that wants the next hop to lose these wants the next hop to see another message.
          return refuse(code, "RFC 9110 §7.6.1", "Connection names a framing field");
        default:
      }
    }
    return undefined;
  }
}

// 2^53 - 1 has 16 digits.
const MAX_DIGITS = 16;

/** @returns -1 if text is not a decimal number up to 2^53 - 1. */
export function parseContentLength(text: string): number {
  const { length } = text;
  if (length === 0 || length > MAX_DIGITS) return -1;
  let value = 0;
  for (let i = 0; i < length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return Number.isSafeInteger(value) ? value : -1;
}
