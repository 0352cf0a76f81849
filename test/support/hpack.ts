import { headerName } from "../../src/proxy/core/header.ts";
import type { HpackEncoder } from "../../src/proxy/wire/http2/hpack/index.ts";
import { type HeaderBlock, Pseudo } from "../../src/proxy/wire/http2/hpack/index.ts";
import type { Fields } from "./http2.ts";

const PSEUDOS = [Pseudo.method, Pseudo.scheme, Pseudo.authority, Pseudo.path, Pseudo.protocol, Pseudo.status] as const;

/** Pseudo-headers in the order of RFC 7541's examples, then the rest. */
export function blockFields(block: HeaderBlock): [string, string][] {
  const fields: [string, string][] = [];
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined) fields.push([name, value]);
  };
  add(":status", block.status);
  add(":method", block.method);
  add(":scheme", block.scheme);
  add(":path", block.path);
  add(":authority", block.authority);
  add(":protocol", block.protocol);
  for (let i = 0; i < block.headers.length; i++) add(block.headers.names[i]?.lower ?? "", block.headers.values[i]);
  return fields;
}

/** One block with an encoder that may be in the middle of a connection. */
export function encodeBlock(encoder: HpackEncoder, fields: Fields): Buffer {
  const text = fields.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  const bound = encoder.bound(fields.length, text);
  const buffer = Buffer.alloc(bound);
  let at = encoder.begin(buffer, 0);
  for (const [text, value] of fields) {
    const name = PSEUDOS.find((pseudo) => pseudo.lower === text) ?? headerName(text);
    if (name === undefined) throw new Error(`not a field name: ${text}`);
    at = encoder.field(buffer, at, name, value);
  }
  if (at > bound) throw new Error(`the bound is too small: ${at} > ${bound}`);
  return buffer.subarray(0, at);
}
