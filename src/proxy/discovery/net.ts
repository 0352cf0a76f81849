import type { net } from "../../proto/index.ts";
import { type Cidr, formatIp, formatSocketAddress, type Ip, makeCidr, type SocketAddress } from "../core/address.ts";
import { InvalidMessage, required } from "./invalid.ts";

/** @returns undefined if the message holds no address. A v4-mapped IPv6 address becomes the IPv4 one. */
export function decodeIp(message: net.IPAddress | undefined): Ip | undefined {
  switch (message?.ip.case) {
    case "ipv4":
      return { version: 4, words: [message.ip.value >>> 0] };
    case "ipv6": {
      const { first, last } = message.ip.value;
      const words = [high(first), low(first), high(last), low(last)];
      if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) return { version: 4, words: [words[3] as number] };
      return { version: 6, words };
    }
    default:
      return undefined;
  }
}

/** The inverse of {@link decodeIp}, as an unfinished message. */
export function encodeIp(ip: Ip): {
  ip: { case: "ipv4"; value: number } | { case: "ipv6"; value: { first: bigint; last: bigint } };
} {
  const word = (i: number): bigint => BigInt(ip.words[i] as number);
  if (ip.version === 4) return { ip: { case: "ipv4", value: ip.words[0] as number } };
  return { ip: { case: "ipv6", value: { first: (word(0) << 32n) | word(1), last: (word(2) << 32n) | word(3) } } };
}

/** @returns undefined if the address cannot be read. The port is cut to 16 bits, as Linkerd does. */
export function decodeAddress(message: net.TcpAddress | undefined): SocketAddress | undefined {
  const ip = decodeIp(message?.ip);
  return ip === undefined || message === undefined ? undefined : { ip: formatIp(ip), port: message.port & 0xffff };
}

/** The key under which an endpoint of this address is known. */
export function addressKey(message: net.TcpAddress | undefined): string | undefined {
  const address = decodeAddress(message);
  return address && formatSocketAddress(address);
}

/** @throws InvalidMessage */
export function decodeNetwork(message: net.IPNetwork | undefined): Cidr {
  const ip = required(decodeIp(message?.ip), "network address");
  const cidr = makeCidr(ip, message?.prefixLen ?? -1);
  if (cidr === undefined) throw new InvalidMessage(`network prefix /${message?.prefixLen} does not fit the address`);
  return cidr;
}

function high(value: bigint): number {
  return Number((value >> 32n) & 0xffffffffn);
}

function low(value: bigint): number {
  return Number(value & 0xffffffffn);
}
