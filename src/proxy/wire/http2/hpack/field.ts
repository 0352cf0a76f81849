import { H, type HeaderName, HeaderName as Name } from "../../../core/header.ts";
import { Octet } from "./octets.ts";

function pseudo(name: string): HeaderName {
  return new Name(name, name, undefined, false);
}

/**
 * The pseudo-header names of RFC 9113 §8.3 and RFC 8441 §4. They are no tokens, so the interning of core does not know
 * them and no text can ever be mistaken for one.
 */
export const Pseudo = {
  authority: pseudo(":authority"),
  method: pseudo(":method"),
  path: pseudo(":path"),
  protocol: pseudo(":protocol"),
  scheme: pseudo(":scheme"),
  status: pseudo(":status"),
} as const;

/** Stands for a name that no HTTP/2 field may have (RFC 9113 §8.2.1); the table still needs an entry for it. */
export const MALFORMED_NAME: HeaderName = pseudo("");

/** What a name means to the message it stands in. */
export const FieldKind = {
  regular: 0,
  method: 1,
  scheme: 2,
  authority: 3,
  path: 4,
  protocol: 5,
  status: 6,
  contentLength: 7,
  host: 8,
  te: 9,
  connectionSpecific: 10,
  malformed: 11,
  lookalike: 12,
} as const;
export type FieldKind = (typeof FieldKind)[keyof typeof FieldKind];

const KINDS: ReadonlyMap<HeaderName, FieldKind> = new Map<HeaderName, FieldKind>([
  [Pseudo.method, FieldKind.method],
  [Pseudo.scheme, FieldKind.scheme],
  [Pseudo.authority, FieldKind.authority],
  [Pseudo.path, FieldKind.path],
  [Pseudo.protocol, FieldKind.protocol],
  [Pseudo.status, FieldKind.status],
  [H.contentLength, FieldKind.contentLength],
  [H.host, FieldKind.host],
  [H.te, FieldKind.te],
  [MALFORMED_NAME, FieldKind.malformed],
]);

export function fieldKind(name: HeaderName): FieldKind {
  if (name.hopByHop) return FieldKind.connectionSpecific;
  if (name.isLookalike) return FieldKind.lookalike;
  return KINDS.get(name.canonical) ?? FieldKind.regular;
}

// Brackets only around an IPv6 address, a port of digits only. Which octets may stand there at all is Octet's.
const AUTHORITY = /^(?:\[[0-9A-Fa-f:.]+(?:%25[^[\]:]+)?\]|[^[\]:]+)(?::\d{0,5})?$/;
// 15 digits: beyond 2^53 a number would no longer be what was sent, and a terabyte has 13.
const MAX_LENGTH_DIGITS = 15;

/**
 * Judges a value by its name's rules.
 *
 * @param classes - Of all octets of the value, see {@link Octet}.
 * @returns the rule it breaks, undefined if none.
 */
export function valueFault(kind: FieldKind, value: string, classes: number): string | undefined {
  if (classes & Octet.control) return "control character in a value";
  if (value.length > 0 && (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1)))) {
    return "white space around a value";
  }
  switch (kind) {
    case FieldKind.regular:
    case FieldKind.lookalike:
      return undefined;
    case FieldKind.method:
      // House rule: `get` is a token, but a hop that folds case would see another request than we authorized.
      return value === "" || classes & Octet.notMethod ? "method is not an upper-case token" : undefined;
    case FieldKind.scheme:
      return !isLetter(value.charCodeAt(0)) || classes & Octet.notScheme ? "malformed :scheme" : undefined;
    case FieldKind.authority:
      // RFC 9113 §8.3.1: neither empty nor with userinfo.
      return classes & Octet.notAuthority || !AUTHORITY.test(value) ? "malformed :authority" : undefined;
    case FieldKind.host:
      // Empty is what HTTP/1 sends when there is no authority (RFC 9110 §7.2); it arrives here carried in HTTP/2.
      if (value === "") return undefined;
      return classes & Octet.notAuthority || !AUTHORITY.test(value) ? "malformed Host" : undefined;
    case FieldKind.path:
      if (value === "*") return undefined;
      return value.charCodeAt(0) !== 0x2f || classes & Octet.notPath ? "malformed :path" : undefined;
    case FieldKind.protocol:
      return value === "" || classes & Octet.notLowerToken ? "malformed :protocol" : undefined;
    case FieldKind.status:
      return value.length !== 3 || classes & Octet.notDigit || value < "100" || value > "599"
        ? "malformed :status"
        : undefined;
    case FieldKind.contentLength:
      return value === "" || value.length > MAX_LENGTH_DIGITS || classes & Octet.notDigit
        ? "malformed content-length"
        : undefined;
    case FieldKind.te:
      // RFC 9113 §8.2.2.
      return value.toLowerCase() === "trailers" ? undefined : "te other than trailers";
    case FieldKind.connectionSpecific:
      return "connection-specific field";
    case FieldKind.malformed:
      return "malformed field name";
    default:
      return kind satisfies never;
  }
}

function isBlank(octet: number): boolean {
  return octet === 0x20 || octet === 0x09;
}

function isLetter(octet: number): boolean {
  return (octet | 0x20) >= 0x61 && (octet | 0x20) <= 0x7a;
}

/** RFC 7541 §4.1: what an entry costs beyond its text. */
export const ENTRY_OVERHEAD_BYTES = 32;

/** One entry of a table. Name and value are judged once, when the entry is made, not each time it is referred to. */
export class Field {
  readonly name: HeaderName;
  readonly value: string;
  readonly kind: FieldKind;
  /** The rule that name or value break, undefined for a good field. */
  readonly fault: string | undefined;
  /** RFC 7541 §4.1. */
  readonly size: number;

  constructor(name: HeaderName, value: string, kind: FieldKind, fault: string | undefined, size: number) {
    this.name = name;
    this.value = value;
    this.kind = kind;
    this.fault = fault;
    this.size = size;
  }
}
