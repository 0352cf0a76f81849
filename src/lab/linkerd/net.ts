import type { net } from "../../proto/index.ts";
import { type Cidr, formatIp, type Ip, parseCidr, parseIp } from "../../proxy/core/address.ts";
import type { Init } from "./message.ts";

export type IpMessage = Init<typeof net.IPAddressSchema>;
export type TcpMessage = Init<typeof net.TcpAddressSchema>;
export type NetworkMessage = Init<typeof net.IPNetworkSchema>;

/** The message for an address: one 32-bit number, or two 64-bit ones. */
export function ipMessage({ version, words }: Pick<Ip, "version" | "words">): IpMessage {
  const word = (index: number): number => words[index] as number;
  if (version === 4) return { ip: { case: "ipv4", value: word(0) } };
  const pair = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);
  return { ip: { case: "ipv6", value: { first: pair(word(0), word(1)), last: pair(word(2), word(3)) } } };
}

/** @returns undefined if the text is not an address. */
export function tcpMessage(ip: string, port: number): TcpMessage | undefined {
  const parsed = parseIp(ip);
  return parsed && { ip: ipMessage(parsed), port };
}

export function networkMessage({ version, words, prefix }: Cidr): NetworkMessage {
  return { ip: ipMessage({ version, words }), prefixLen: prefix };
}

/** Canonical text of the address in a message; undefined if it holds none. */
export function ipText(message: net.IPAddress | undefined): string | undefined {
  switch (message?.ip.case) {
    case "ipv4":
      return formatIp({ version: 4, words: [message.ip.value] });
    case "ipv6": {
      const { first, last } = message.ip.value;
      const words = [first >> 32n, first & 0xffffffffn, last >> 32n, last & 0xffffffffn].map(Number);
      const text = formatIp({ version: 6, words });
      // A mapped address is the IPv4 one, as everywhere here.
      const parsed = parseIp(text);
      return parsed && formatIp(parsed);
    }
    default:
      return undefined;
  }
}

const EVERYWHERE = [parseCidr("0.0.0.0/0"), parseCidr("::/0")] as readonly Cidr[];

/** All of IPv4 and IPv6. */
export function allNetworks(): readonly Cidr[] {
  return EVERYWHERE;
}
