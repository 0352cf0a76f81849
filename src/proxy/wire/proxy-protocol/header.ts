import { canonicalIp, formatIp } from "../../core/address.ts";
import type { Decoded } from "../../core/machine.ts";

/** Who opened the connection, as the balancer in front says. */
export interface ProxyHeader {
  /** undefined: the balancer speaks for itself (its health check), or does not know. */
  readonly source: { readonly ip: string; readonly port: number } | undefined;
}

// §2.1: "a 108-byte buffer is always enough to store all the line and a trailing zero".
const MAX_LINE_BYTES = 107;
/** Ours: the addresses of §2.2 take 216 bytes at most, and clouds add a few short TLVs. The length field would say 64 KiB. */
export const MAX_PROXY_HEADER_BYTES = 2048;
const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const FIXED_BYTES = 16;
const LOCAL = 0x20;
const PROXY = 0x21;
// §2.2: address family in the upper half, transport in the lower; STREAM is what we listen for.
const TCP4 = 0x11;
const TCP6 = 0x21;
const ADDRESS_BYTES = { [TCP4]: 12, [TCP6]: 36 } as const;
const CR = 0x0d;

/**
 * Reads a PROXY protocol header, version 1 or 2, from the first bytes of a connection. Call it only for connections
 * from balancers: anybody can write such a header.
 *
 * @param bytes - The connection's first bytes, possibly split anywhere; not retained.
 * @returns `done`: the source it names; `more`: total bytes wanted, at most {@link MAX_PROXY_HEADER_BYTES}; `no`: not
 *   such a header, malformed, or longer than that: the connection is to be closed.
 * @throws Never: these bytes come from strangers.
 * @see https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
export function decodeProxyHeader(bytes: Buffer): Decoded<ProxyHeader> {
  if (bytes.length === 0) return { kind: "more", atLeast: 1 };
  return bytes[0] === CR ? decodeBinary(bytes) : decodeLine(bytes);
}

/** Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 4145\r\n`. */
function decodeLine(bytes: Buffer): Decoded<ProxyHeader> {
  const head = bytes.toString("latin1", 0, Math.min(bytes.length, MAX_LINE_BYTES));
  if (!"PROXY ".startsWith(head.slice(0, 6))) return no("not a PROXY header");
  const end = head.indexOf("\r\n");
  if (end < 0) {
    return head.length >= MAX_LINE_BYTES
      ? no("no end of line within 107 bytes")
      : { kind: "more", atLeast: bytes.length + 1 };
  }
  const [, family, from, to, fromPort, toPort, ...rest] = head.slice(0, end).split(" ");
  const consumed = end + 2;
  // §2.1: what follows UNKNOWN is to be ignored.
  if (family === "UNKNOWN") return { kind: "done", value: { source: undefined }, consumed };
  if (family !== "TCP4" && family !== "TCP6") return no("unknown protocol family");
  const v6 = family === "TCP6";
  const ip = addressOf(from, v6);
  const port = portOf(fromPort);
  if (ip === undefined || addressOf(to, v6) === undefined) return no("not an address of its family");
  if (port === undefined || portOf(toPort) === undefined || rest.length > 0) return no("not a port");
  return { kind: "done", value: { source: { ip, port } }, consumed };
}

/** Version 2: signature, version and command, family, length, addresses, TLVs. */
function decodeBinary(bytes: Buffer): Decoded<ProxyHeader> {
  const seen = Math.min(bytes.length, SIGNATURE.length);
  if (!bytes.subarray(0, seen).equals(SIGNATURE.subarray(0, seen))) return no("not a PROXY header");
  if (bytes.length < FIXED_BYTES) return { kind: "more", atLeast: FIXED_BYTES };
  const command = bytes.readUInt8(12);
  if (command !== LOCAL && command !== PROXY) return no("unknown version or command");
  const family = bytes.readUInt8(13);
  const length = bytes.readUInt16BE(14);
  const consumed = FIXED_BYTES + length;
  if (consumed > MAX_PROXY_HEADER_BYTES) return no("header too long");
  if (bytes.length < consumed) return { kind: "more", atLeast: consumed };
  // §2.2: LOCAL, and families that we do not listen for, are taken with the connection's own addresses.
  if (command === LOCAL || (family !== TCP4 && family !== TCP6)) {
    return { kind: "done", value: { source: undefined }, consumed };
  }
  if (length < ADDRESS_BYTES[family]) return no("addresses cut short");
  const v6 = family === TCP6;
  const words = Array.from({ length: v6 ? 4 : 1 }, (_, i) => bytes.readUInt32BE(FIXED_BYTES + 4 * i));
  const text = formatIp({ version: v6 ? 6 : 4, words });
  // An IPv4 address in IPv6 clothes is the IPv4 one, for every network it is compared with.
  const ip = canonicalIp(text) ?? text;
  const port = bytes.readUInt16BE(FIXED_BYTES + (v6 ? 32 : 8));
  return { kind: "done", value: { source: { ip, port } }, consumed };
}

function addressOf(text: string | undefined, v6: boolean): string | undefined {
  return text === undefined || text.includes(":") !== v6 ? undefined : canonicalIp(text);
}

function portOf(text: string | undefined): number | undefined {
  return text !== undefined && /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function no(why: string): Decoded<ProxyHeader> {
  return { kind: "no", why };
}
