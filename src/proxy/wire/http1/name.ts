import { type HeaderName, headerName } from "../../core/header.ts";

// A direct-mapped memory of names seen lately: most names of a head are found without making a string. A stranger can
// only make it miss, which costs the look-up in `headerName`.
const SLOTS = 512;
const slots: (HeaderName | undefined)[] = new Array(SLOTS).fill(undefined);

/**
 * The header name that stands in `text` from `from` up to `to`.
 * @returns undefined if that is not an RFC 9110 token.
 */
export function nameAt(text: string, from: number, to: number): HeaderName | undefined {
  const length = to - from;
  if (length <= 0) return undefined;
  const slot =
    (length * 37 + text.charCodeAt(from) * 5 + text.charCodeAt(to - 1) * 11 + text.charCodeAt(from + (length >> 1))) &
    (SLOTS - 1);
  const seen = slots[slot];
  if (seen !== undefined && seen.spelled.length === length && text.startsWith(seen.spelled, from)) return seen;
  const name = headerName(text.slice(from, to));
  // Only what `headerName` itself remembers: other names are slices that would keep the head they were cut from alive.
  if (name !== undefined && headerName(name.spelled) === name) slots[slot] = name;
  return name;
}
