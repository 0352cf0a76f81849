import type { ProtocolError } from "../../core/errors.ts";
import type { HeaderList } from "../../core/header.ts";
import { nameAt } from "./name.ts";
import { refuse } from "./refuse.ts";

const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
const TAB = 0x09;
const COLON = ":";

/**
 * Reads field lines, each ended by CR LF, from `from` up to `to`.
 *
 * @param code - The status that a refusal carries: 400 for what a client sent, 502 for what a server sent.
 * @param tooMany - The same for more than `maxFields` fields: 431 or 502.
 * @returns undefined if all is well. Control characters inside values are the caller's to find, see `controls.ts`.
 * @see RFC 9112 §5
 */
export function parseFields(
  text: string,
  from: number,
  to: number,
  into: HeaderList,
  maxFields: number,
  code: number,
  tooMany: number,
): ProtocolError | undefined {
  let at = from;
  while (at < to) {
    const colon = text.indexOf(COLON, at);
    // A line without colon takes its name from beyond its end, and CR is no token. So does white space: a folded line
    // (§5.2) and white space before the colon (§5.1), the classics of request smuggling, end here.
    const name = colon < 0 ? undefined : nameAt(text, at, colon);
    if (name === undefined) return refuse(code, "RFC 9112 §5.1", "malformed field line");
    if (into.length >= maxFields) return refuse(tooMany, "RFC 6585 §5", "too many fields");
    let start = colon + 1;
    let first = text.charCodeAt(start);
    while (first === SP || first === TAB) first = text.charCodeAt(++start);
    const { recent } = name;
    const isRecent = recent !== "" && text.charCodeAt(start + recent.length) === CR && text.startsWith(recent, start);
    const end = isRecent ? start + recent.length : text.indexOf("\r", start);
    if (end < 0 || end >= to || text.charCodeAt(end + 1) !== LF) {
      return refuse(code, "RFC 9112 §2.2", "CR without LF in a field line");
    }
    if (!name.isLookalike)
      into.add(name, isRecent ? recent : name.remembered(text.slice(start, valueEnd(text, start, end))));
    at = end + 2;
  }
  return undefined;
}

/** The end of a value without the white space behind it. */
function valueEnd(text: string, start: number, end: number): number {
  let last = end;
  while (last > start) {
    const before = text.charCodeAt(last - 1);
    if (before !== SP && before !== TAB) break;
    last--;
  }
  return last;
}

// RFC 9110 §5.5 allows HTAB, SP, VCHAR and obs-text. Everything else is refused, not only CR, LF and NUL: a strict
// reader behind us would refuse it, a careless one would not see what we saw.
const FORBIDDEN = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n/;
const FORBIDDEN_IN_PART = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n/;

/** Whether text holds a control character other than HTAB and the line end CR LF. */
export function hasForbidden(text: string): boolean {
  return FORBIDDEN.test(text);
}

/** The same for a head that goes on, whose last CR may yet get its LF. */
export function hasForbiddenInPart(text: string): boolean {
  return FORBIDDEN_IN_PART.test(text);
}
