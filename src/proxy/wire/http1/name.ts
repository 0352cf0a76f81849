import { type HeaderName, headerName } from "../../core/header.ts";

// A direct-mapped memory of names seen lately: most names of a head are found without making a string. A stranger can
// only make it miss, which costs the look-up in `headerName`.
export const NAME_SLOTS = 512;
const slots: (HeaderName | undefined)[] = new Array(NAME_SLOTS).fill(undefined);

/** Where a name is remembered, by its length and three of its bytes. */
export function nameSlot(length: number, first: number, middle: number, last: number): number {
  return (length * 37 + first * 5 + last * 11 + middle) & (NAME_SLOTS - 1);
}

/** Only what `headerName` itself remembers: other names are slices that would keep the head they were cut from alive. */
export function isLasting(name: HeaderName): boolean {
  return headerName(name.spelled) === name;
}

/**
 * The header name that stands in `text` from `from` up to `to`.
 * @returns undefined if that is not an RFC 9110 token.
 */
export function nameAt(text: string, from: number, to: number): HeaderName | undefined {
  const length = to - from;
  if (length <= 0) return undefined;
  const slot = nameSlot(length, text.charCodeAt(from), text.charCodeAt(from + (length >> 1)), text.charCodeAt(to - 1));
  const seen = slots[slot];
  if (seen !== undefined && seen.spelled.length === length && text.startsWith(seen.spelled, from)) return seen;
  const name = headerName(text.slice(from, to));
  if (name !== undefined && isLasting(name)) slots[slot] = name;
  return name;
}
