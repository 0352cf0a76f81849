import { isDnsName } from "../../core/authority.ts";
import type { Decoded } from "../../core/machine.ts";
import { ProtobufReader, WireType } from "./protobuf.ts";

/** Where a stream on port 4143 belongs. */
export interface TransportHeader {
  /** 1–65535. */
  readonly port: number;
  /** Set only if a gateway is asked: the name behind it, as sent. */
  readonly name: string | undefined;
  /** What the stream carries; undefined = opaque bytes. */
  readonly protocol: "http1" | "http2" | undefined;
}

/** ALPN with which both sides agree that such a header comes first. */
export const TRANSPORT_ALPN = "transport.l5d.io/v1";

/** The protobuf message alone, as Linkerd bounds it. */
export const MAX_TRANSPORT_HEADER_BYTES = 65_536;

const PREFACE: Buffer = Buffer.from(`${TRANSPORT_ALPN}\r\n\r\n`, "latin1");
const LENGTH_BYTES = 4;

// message Header          { int32 port = 1; string name = 2; SessionProtocol session_protocol = 3; }
// message SessionProtocol { oneof kind { Http1 http1 = 1; Http2 http2 = 2; } }     both kinds are empty messages
const PORT = 1;
const NAME = 2;
const SESSION_PROTOCOL = 3;
const HTTP1 = 1;
const HTTP2 = 2;

/**
 * Reads a transport header: preface, big-endian length, protobuf. Fields this version does not know are skipped.
 *
 * @param bytes - The first bytes inside mesh TLS, split anywhere; not retained.
 * @returns `no` for another preface, more than {@link MAX_TRANSPORT_HEADER_BYTES}, a broken message, a port outside
 *   1–65535 or a name that is no DNS name: close without an answer. `consumed` ends where the stream itself begins.
 * @throws Never.
 */
export function decodeTransportHeader(bytes: Buffer): Decoded<TransportHeader> {
  const known = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, known, 0, known) !== 0) return { kind: "no", why: "not a transport header" };
  const start = PREFACE.length + LENGTH_BYTES;
  if (bytes.length < start) return { kind: "more", atLeast: start };
  const length = bytes.readUInt32BE(PREFACE.length);
  if (length > MAX_TRANSPORT_HEADER_BYTES) return { kind: "no", why: "transport header too long" };
  const end = start + length;
  if (bytes.length < end) return { kind: "more", atLeast: end };
  const value = decodeHeader(bytes.subarray(start, end));
  return typeof value === "string" ? { kind: "no", why: value } : { kind: "done", value, consumed: end };
}

/** @returns The reason, if it is not a header. */
function decodeHeader(message: Buffer): TransportHeader | string {
  const reader = new ProtobufReader(message);
  let port = 0;
  let name = "";
  const kind = { protocol: undefined as TransportHeader["protocol"] };
  while (reader.next()) {
    switch (reader.field) {
      case PORT:
        port = reader.int32();
        break;
      case NAME:
        name = reader.bytes().toString("latin1");
        break;
      case SESSION_PROTOCOL:
        // Given twice, messages merge (the protobuf encoding's rule), so the last kind wins.
        if (!decodeSessionProtocol(reader.bytes(), kind)) return "malformed session protocol";
        break;
      default:
        reader.skip();
    }
  }
  if (reader.isBroken) return "malformed transport header";
  if (port < 1 || port > 65_535) return "transport header without a valid port";
  if (name !== "" && !isDnsName(name.endsWith(".") ? name.slice(0, -1) : name)) {
    return "name in the transport header is not a DNS name";
  }
  return { port, name: name === "" ? undefined : name, protocol: kind.protocol };
}

function decodeSessionProtocol(message: Buffer, into: { protocol: TransportHeader["protocol"] }): boolean {
  const reader = new ProtobufReader(message);
  while (reader.next()) {
    if (reader.field !== HTTP1 && reader.field !== HTTP2) {
      reader.skip();
      continue;
    }
    into.protocol = reader.field === HTTP1 ? "http1" : "http2";
    const inner = new ProtobufReader(reader.bytes());
    while (inner.next()) inner.skip();
    if (inner.isBroken) return false;
  }
  return !reader.isBroken;
}

/** Formats a header with preface and length, ready to be the first bytes inside mesh TLS. */
export function encodeTransportHeader(header: TransportHeader): Buffer {
  const fields: number[] = [(PORT << 3) | WireType.varint, ...varint(header.port)];
  if (header.name !== undefined) {
    const name = Buffer.from(header.name, "latin1");
    fields.push((NAME << 3) | WireType.bytes, ...varint(name.length), ...name);
  }
  if (header.protocol !== undefined) {
    const kind = header.protocol === "http1" ? HTTP1 : HTTP2;
    fields.push((SESSION_PROTOCOL << 3) | WireType.bytes, 2, (kind << 3) | WireType.bytes, 0);
  }
  const message = Buffer.alloc(PREFACE.length + LENGTH_BYTES + fields.length);
  PREFACE.copy(message);
  message.writeUInt32BE(fields.length, PREFACE.length);
  message.set(fields, PREFACE.length + LENGTH_BYTES);
  return message;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80);
  bytes.push(left);
  return bytes;
}
