import { isDnsName } from "../../core/authority.ts";
import type { Decoded } from "../../core/machine.ts";
import { Cursor } from "./cursor.ts";

/** What a client says before anything is encrypted. */
export interface ClientHello {
  /** Server name in lower case; undefined if the client named none. */
  readonly serverName: string | undefined;
  /** Protocols in the client's order, one char per byte. */
  readonly alpn: readonly string[];
}

/** Record headers included. A hello with a post-quantum key share has 1.5 KiB; Node itself reads at most 64 KiB. */
export const MAX_CLIENT_HELLO_BYTES = 65_536;

const HANDSHAKE_RECORD = 0x16;
const RECORD_HEADER_BYTES = 5;
// RFC 8446 §5.1. Linkerd takes 8 KiB at most, and what is longer for anything but TLS; OpenSSL fills whole records.
const MAX_RECORD_BYTES = 16_384;
const CLIENT_HELLO = 1;
const MESSAGE_HEADER_BYTES = 4;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const ALPN = 16;

/**
 * Reads server name and ALPN from a TLS ClientHello, leaving the bytes for whoever terminates or forwards them.
 *
 * One byte is enough for `no`. Unlike Linkerd this also reads a hello that goes on in another record, decides one
 * without extensions or for an old TLS version, and calls a malformed one malformed instead of waiting for more of it.
 *
 * @param bytes - The connection's first bytes, possibly split anywhere; not retained.
 * @returns `done`: SNI in lower case (or undefined) and ALPN in the client's order; `more`: total bytes wanted, at most
 *   {@link MAX_CLIENT_HELLO_BYTES}; `no`: not TLS, or a name that cannot be anybody's here (two names, an IP address, not
 *   a DNS name): treat the stream as not ours.
 * @throws Never: these bytes come from strangers.
 * @see RFC 8446 §4.1.2, §5.1, RFC 6066 §3, RFC 7301 §3.1
 */
export function decodeClientHello(bytes: Buffer): Decoded<ClientHello> {
  let at = 0;
  let message: Buffer | undefined;
  // What the records before carried, when the message does not fit into one.
  const parts: Buffer[] = [];
  let gathered = 0;
  for (;;) {
    const why = notARecord(bytes, at);
    if (why !== undefined) return { kind: "no", why };
    if (bytes.length < at + RECORD_HEADER_BYTES) return more(at + RECORD_HEADER_BYTES);
    const start = at + RECORD_HEADER_BYTES;
    const end = start + bytes.readUInt16BE(at + 3);
    if (end === start) return { kind: "no", why: "empty handshake record" };
    if (end - start > MAX_RECORD_BYTES) return { kind: "no", why: "record too long" };
    if (end > MAX_CLIENT_HELLO_BYTES) return { kind: "no", why: "ClientHello too long" };
    // The type of the message is known before the rest of its record.
    if (gathered === 0 && bytes.length > start && bytes[start] !== CLIENT_HELLO) {
      return { kind: "no", why: "not a ClientHello" };
    }
    if (bytes.length < end) return more(end);
    parts.push(bytes.subarray(start, end));
    gathered += end - start;
    at = end;
    message ??= gathered >= MESSAGE_HEADER_BYTES ? join(parts) : undefined;
    if (message === undefined) continue;
    const length = message.readUIntBE(1, 3);
    if (length > MAX_CLIENT_HELLO_BYTES) return { kind: "no", why: "ClientHello too long" };
    const missing = MESSAGE_HEADER_BYTES + length - gathered;
    if (missing < 0) return { kind: "no", why: "bytes behind the ClientHello in its record" };
    if (missing === 0) return decodeMessage(parts.length === 1 ? message : join(parts), at);
  }
}

function more(atLeast: number): Decoded<never> {
  return { kind: "more", atLeast };
}

function join(parts: readonly Buffer[]): Buffer {
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

/** Judges as much of a record header as is there. */
function notARecord(bytes: Buffer, at: number): string | undefined {
  const left = bytes.length - at;
  if (left > 0 && bytes[at] !== HANDSHAKE_RECORD) return "not a handshake record";
  if (left > 1 && bytes[at + 1] !== 0x03) return "not a TLS version";
  // RFC 8446 §5.1: 0x0301 for the first hello, 0x0303 otherwise.
  if (left > 2 && bytes[at + 2] !== 0x01 && bytes[at + 2] !== 0x03) return "not a TLS version";
  return undefined;
}

function decodeMessage(message: Buffer, consumed: number): Decoded<ClientHello> {
  const cursor = new Cursor(message, MESSAGE_HEADER_BYTES, message.length);
  const version = cursor.uint16();
  // SSL 3 to TLS 1.2. Old ones too: whoever terminates refuses them with an alert, which says more than silence.
  if (version >> 8 !== 0x03) return { kind: "no", why: "not a TLS version" };
  cursor.skip(32); // random
  cursor.skip(cursor.uint8()); // legacy_session_id
  cursor.skip(cursor.uint16()); // cipher_suites
  cursor.skip(cursor.uint8()); // legacy_compression_methods
  const value: { serverName: string | undefined; alpn: string[] } = { serverName: undefined, alpn: [] };
  if (cursor.isBroken) return { kind: "no", why: "malformed ClientHello" };
  // RFC 8446 §4.1.2: TLS 1.2 clients may leave extensions out altogether.
  if (cursor.left > 0) {
    const extensions = cursor.sub(cursor.uint16());
    if (cursor.left > 0) return { kind: "no", why: "bytes behind the extensions" };
    const why = readExtensions(extensions, value);
    if (why !== undefined) return { kind: "no", why };
    if (cursor.isBroken || extensions.isBroken) return { kind: "no", why: "malformed extensions" };
  }
  return { kind: "done", value, consumed };
}

function readExtensions(
  extensions: Cursor,
  value: { serverName: string | undefined; alpn: string[] },
): string | undefined {
  let sawAlpn = false;
  while (extensions.left > 0) {
    const type = extensions.uint16();
    const body = extensions.sub(extensions.uint16());
    if (extensions.isBroken) return "malformed extensions";
    if (type === SERVER_NAME) {
      // RFC 8446 §4.2: no extension twice. Two readers must not find two names.
      if (value.serverName !== undefined) return "more than one server name";
      const list = body.sub(body.uint16());
      const entryType = list.uint8();
      const name = list.text(list.uint16());
      if (body.isBroken || list.isBroken || entryType !== HOST_NAME) return "malformed server name";
      if (list.left > 0 || body.left > 0) return "more than one server name";
      if (!isDnsName(withoutDot(name))) return "server name is not a DNS name";
      value.serverName = name.toLowerCase();
    } else if (type === ALPN) {
      if (sawAlpn) return "ALPN twice";
      sawAlpn = true;
      const list = body.sub(body.uint16());
      while (list.left > 0) value.alpn.push(list.text(list.uint8()));
      if (body.isBroken || list.isBroken || body.left > 0) return "malformed ALPN";
    }
  }
  return undefined;
}

/** `name.` is a DNS name, and another one than `name`: it is kept in the answer. */
function withoutDot(name: string): string {
  return name.endsWith(".") ? name.slice(0, -1) : name;
}
