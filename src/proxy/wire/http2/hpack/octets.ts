/**
 * What an octet excludes, so that one pass over a text answers every question about it: the classes of all its octets
 * are or-ed together, and a bit that is clear at the end says that no octet broke that rule.
 */
export const Octet = {
  /** A control other than HTAB: never in a value (RFC 9110 §5.5; NUL, CR and LF by RFC 9113 §8.2.1). */
  control: 1,
  /** Not in a lower-case token: never in a field name (RFC 9113 §8.2.1). */
  notLowerToken: 2,
  /** Not in a token of anything but lower case: never in a method. */
  notMethod: 4,
  /** Space, control or `#`: never in `:path` (RFC 9113 §8.3.1; a fragment is not sent). */
  notPath: 8,
  /** Not a digit. */
  notDigit: 16,
  /** Neither unreserved, sub-delimiter (but comma), percent, colon nor bracket: never in `:authority` or `Host`. */
  notAuthority: 32,
  /** Not a letter, digit, `+`, `-` or `.`: never in a scheme (RFC 3986 §3.1). */
  notScheme: 64,
} as const;

const LOWER = "abcdefghijklmnopqrstuvwxyz";
const UPPER = LOWER.toUpperCase();
const DIGITS = "0123456789";
const TOKEN_MARKS = "!#$%&'*+-.^_`|~";

/** The classes of each octet. */
export const OCTET_CLASSES: Uint8Array = build();

function build(): Uint8Array {
  const classes = new Uint8Array(256);
  const allow = (bit: number, allowed: string): void => {
    for (let octet = 0; octet < 256; octet++) {
      if (!allowed.includes(String.fromCharCode(octet))) classes[octet] = (classes[octet] as number) | bit;
    }
  };
  for (let octet = 0; octet < 256; octet++) {
    const control = (octet < 0x20 && octet !== 0x09) || octet === 0x7f;
    if (control) classes[octet] = (classes[octet] as number) | Octet.control;
    if (control || octet === 0x09 || octet === 0x20 || octet === 0x23) {
      classes[octet] = (classes[octet] as number) | Octet.notPath;
    }
  }
  allow(Octet.notLowerToken, LOWER + DIGITS + TOKEN_MARKS);
  allow(Octet.notMethod, UPPER + DIGITS + TOKEN_MARKS);
  allow(Octet.notDigit, DIGITS);
  allow(Octet.notAuthority, `${LOWER}${UPPER}${DIGITS}-._~!$&'()*+;=%:[]`);
  allow(Octet.notScheme, `${LOWER}${UPPER}${DIGITS}+-.`);
  return classes;
}

/** The classes of all octets of a latin1 text, or-ed. */
export function classesOf(text: string): number {
  let classes = 0;
  for (let i = 0; i < text.length; i++) classes |= OCTET_CLASSES[text.charCodeAt(i)] as number;
  return classes;
}
