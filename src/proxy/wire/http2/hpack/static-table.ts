import { type HeaderName, headerName } from "../../../core/header.ts";
import { ENTRY_OVERHEAD_BYTES, Field, fieldKind, Pseudo, valueFault } from "./field.ts";
import { classesOf } from "./octets.ts";

/** RFC 7541 appendix A, from index 1. */
// biome-ignore format: by name, as in the appendix
const TABLE: readonly (readonly [name: string, value: string])[] = [
  [":authority", ""],
  [":method", "GET"], [":method", "POST"],
  [":path", "/"], [":path", "/index.html"],
  [":scheme", "http"], [":scheme", "https"],
  [":status", "200"], [":status", "204"], [":status", "206"], [":status", "304"],
  [":status", "400"], [":status", "404"], [":status", "500"],
  ["accept-charset", ""], ["accept-encoding", "gzip, deflate"], ["accept-language", ""], ["accept-ranges", ""],
  ["accept", ""], ["access-control-allow-origin", ""], ["age", ""], ["allow", ""], ["authorization", ""],
  ["cache-control", ""], ["content-disposition", ""], ["content-encoding", ""], ["content-language", ""],
  ["content-length", ""], ["content-location", ""], ["content-range", ""], ["content-type", ""], ["cookie", ""],
  ["date", ""], ["etag", ""], ["expect", ""], ["expires", ""], ["from", ""], ["host", ""], ["if-match", ""],
  ["if-modified-since", ""], ["if-none-match", ""], ["if-range", ""], ["if-unmodified-since", ""],
  ["last-modified", ""], ["link", ""], ["location", ""], ["max-forwards", ""], ["proxy-authenticate", ""],
  ["proxy-authorization", ""], ["range", ""], ["referer", ""], ["refresh", ""], ["retry-after", ""], ["server", ""],
  ["set-cookie", ""], ["strict-transport-security", ""], ["transfer-encoding", ""], ["user-agent", ""], ["vary", ""],
  ["via", ""], ["www-authenticate", ""],
];

/** The static table's last index; the dynamic table goes on from there (RFC 7541 §2.3.3). */
export const STATIC_LENGTH = 61;

/** By index; 0 is not used. */
export const STATIC_TABLE: readonly (Field | undefined)[] = build();

function build(): (Field | undefined)[] {
  const pseudos = new Map<string, HeaderName>(Object.values(Pseudo).map((name) => [name.lower, name]));
  const table: (Field | undefined)[] = [undefined];
  for (const [text, value] of TABLE) {
    const name = pseudos.get(text) ?? headerName(text);
    if (name === undefined) throw new Error(`not a field name: ${text}`);
    if (name.staticIndex === 0) name.staticIndex = table.length;
    const kind = fieldKind(name);
    const size = text.length + value.length + ENTRY_OVERHEAD_BYTES;
    table.push(new Field(name, value, kind, valueFault(kind, value, classesOf(value)), size));
  }
  return table;
}
