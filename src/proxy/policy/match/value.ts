import type { HeaderList } from "../../core/header.ts";
import type { NamedMatch, ValueMatch } from "../model.ts";

// An expression sees only values that are text: http's HeaderValue::to_str.
const VISIBLE = /^[\t\x20-\x7e]*$/;

/** Whether every match finds a header with a fitting value; of several values any may fit. */
export function matchHeaders(matches: readonly NamedMatch[], headers: HeaderList): boolean {
  for (const match of matches) if (!matchHeader(match, headers)) return false;
  return true;
}

function matchHeader(match: NamedMatch, headers: HeaderList): boolean {
  const { names, values } = headers;
  for (let i = 0; i < names.length; i++) {
    if (names[i]?.lower !== match.name) continue;
    const value = values[i] as string;
    if (match.value.kind === "regex" && !VISIBLE.test(value)) continue;
    if (matchValue(match.value, value)) return true;
  }
  return false;
}

/** Whether every match finds a pair of that exact name with a fitting value. `pairs` alternates name and value. */
export function matchQuery(matches: readonly NamedMatch[], pairs: readonly string[]): boolean {
  for (const match of matches) if (!matchParameter(match, pairs)) return false;
  return true;
}

function matchParameter(match: NamedMatch, pairs: readonly string[]): boolean {
  for (let i = 0; i < pairs.length; i += 2) {
    if (pairs[i] === match.name && matchValue(match.value, pairs[i + 1] as string)) return true;
  }
  return false;
}

function matchValue(match: ValueMatch, value: string): boolean {
  return match.kind === "exact" ? value === match.value : (match.pattern.matches?.(value) ?? false);
}
