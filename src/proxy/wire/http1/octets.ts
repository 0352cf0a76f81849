import { countControls } from "./controls.ts";
import { hasForbidden } from "./fields.ts";
import { latin1Write } from "./latin1.ts";

const TAB = 0x09;
const SPACE = 0x20;
const DEL = 0x7f;
const LAST = 0xff;
// Up to here a loop costs less than the calls into the runtime that longer text is worth. Longer parts of a text are no
// copies of it in V8, and looking at their chars one by one is slow.
const SHORT = 12;

// Chars that are no bytes: cut to eight bits U+010A would be a line end, and every other one somebody else's letter. On
// text of one-byte chars this is decided without looking at them.
const NO_BYTE = /[^\0-\xff]/;

/**
 * Writes text that may stand in one line, at an offset where there is room for a byte per char. Whoever put a value
 * together from parts must not thereby be able to begin another line.
 * @returns The offset behind it; -1 if it holds control characters other than HTAB (RFC 9110 §5.5), or chars that are no bytes.
 */
export function writeWithin(buffer: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > SHORT) return writeLong(buffer, at, text);
  for (let i = 0; i < length; i++) {
    const char = text.charCodeAt(i);
    if (char < SPACE ? char !== TAB : char >= DEL && (char === DEL || char > LAST)) return -1;
    buffer[at + i] = char;
  }
  return at + length;
}

/** Writes our own text, line ends and all. */
export function writeOwn(buffer: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > SHORT) return latin1Write(buffer, text, at);
  for (let i = 0; i < length; i++) buffer[at + i] = text.charCodeAt(i);
  return at + length;
}

/**
 * Writes lines, each with its CR LF, under the same conditions.
 * @param count - How many lines these should be.
 */
export function writeLines(buffer: Buffer, at: number, text: string, count: number): number {
  if (NO_BYTE.test(text)) return -1;
  const end = latin1Write(buffer, text, at);
  if (countControls(buffer, at, end) === count * 2) return end;
  return hasForbidden(text) || text.split("\n").length !== count + 1 ? -1 : end;
}

function writeLong(buffer: Buffer, at: number, text: string): number {
  if (NO_BYTE.test(text)) return -1;
  const end = latin1Write(buffer, text, at);
  return countControls(buffer, at, end) > 0 && (hasForbidden(text) || text.includes("\n")) ? -1 : end;
}
