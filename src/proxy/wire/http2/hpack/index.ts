/**
 * HPACK (RFC 7541): header blocks against one table per direction and connection. Imports core and the error codes of
 * the folder above. Start with `decoder.ts` and `block.ts`, then `encoder.ts`; `integer.ts`, `huffman.ts` and the tables
 * are what both stand on, `field.ts` says what makes a field malformed.
 */
export { HeaderBlock } from "./block.ts";
export { DEFAULT_TABLE_BYTES, HpackDecoder } from "./decoder.ts";
export { HpackEncoder } from "./encoder.ts";
export { Field, FieldKind, Pseudo } from "./field.ts";
