/** An IP address and a TCP port, as plain data. `ip` is canonical text: dotted quad, or RFC 5952 for IPv6. */
export interface SocketAddress {
  readonly ip: string;
  /** 0–65535. */
  readonly port: number;
}

/** A parsed IP address: one 32-bit word for IPv4, four for IPv6, most significant first. Plain data. */
export interface Ip {
  readonly version: 4 | 6;
  /** Unsigned 32-bit words. */
  readonly words: readonly number[];
}

/** A network. Host bits are cleared. Plain data, so that it crosses threads and files. */
export interface Cidr {
  readonly version: 4 | 6;
  readonly words: readonly number[];
  /** 0–32 or 0–128. */
  readonly prefix: number;
}

const MAPPED = /^::ffff:(?=\d+\.)/i;

/** Gives the IPv4 text of a v4-mapped IPv6 address, as a dual-stack listener reports it; other text is unchanged. */
export function unmapIp(ip: string): string {
  return ip.charCodeAt(0) === 0x3a /* : */ ? ip.replace(MAPPED, "") : ip;
}

/**
 * Parses IPv4 or IPv6 text. IPv4 octets are decimal without leading zeros (as RFC 6943 §3.1.1 strict); a v4-mapped
 * IPv6 address yields the IPv4 one, so that policies cannot be dodged by spelling; a zone id is refused.
 * @returns undefined if the text is not an address.
 */
export function parseIp(text: string): Ip | undefined {
  if (!text.includes(":")) {
    const word = parseIpv4(text);
    return word === undefined ? undefined : { version: 4, words: [word] };
  }
  const words = parseIpv6(text);
  if (words === undefined) return undefined;
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) return { version: 4, words: [words[3] as number] };
  return { version: 6, words };
}

/** Canonical text of an address: dotted quad, or RFC 5952 (lower case, longest run of zeros compressed). */
export function formatIp(ip: Ip): string {
  if (ip.version === 4) return formatWord(ip.words[0] as number);
  const groups: number[] = [];
  for (const word of ip.words) groups.push(word >>> 16, word & 0xffff);
  let bestStart = -1;
  // RFC 5952 §4.2.2: one lone zero group is not compressed.
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) {
      bestStart = i;
      bestLength = end - i;
    }
    if (end > i) i = end;
  }
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  return bestStart < 0 ? hex(0, 8) : `${hex(0, bestStart)}::${hex(bestStart + bestLength, 8)}`;
}

/** Brings text into canonical form and unmaps it; undefined if it is not an address. */
export function canonicalIp(text: string): string | undefined {
  const ip = parseIp(text);
  return ip && formatIp(ip);
}

/** Parses `address/prefix`, or a bare address as a network of one. Host bits are cleared. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === undefined) return undefined;
  const bits = ip.version === 4 ? 32 : 128;
  if (slash < 0) return makeCidr(ip, bits);
  const digits = text.slice(slash + 1);
  return /^\d{1,3}$/.test(digits) ? makeCidr(ip, Number(digits)) : undefined;
}

/** Makes a network from an address and a prefix length in bits; undefined if the length does not fit. */
export function makeCidr(ip: Ip, prefix: number): Cidr | undefined {
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > ip.words.length * 32) return undefined;
  const words = ip.words.map((word, i) => (word & wordMask(prefix - 32 * i)) >>> 0);
  return { version: ip.version, words, prefix };
}

/** Whether the network holds the address. The families never mix. */
export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (cidr.version !== ip.version) return false;
  for (let i = 0, bits = cidr.prefix; bits > 0; i++, bits -= 32) {
    if ((((ip.words[i] as number) ^ (cidr.words[i] as number)) & wordMask(bits)) !== 0) return false;
  }
  return true;
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr)}/${cidr.prefix}`;
}

/** 127.0.0.0/8 or ::1. */
export function isLoopback(ip: Ip): boolean {
  if (ip.version === 4) return (ip.words[0] as number) >>> 24 === 127;
  return ip.words[0] === 0 && ip.words[1] === 0 && ip.words[2] === 0 && ip.words[3] === 1;
}

/** `1.2.3.4:80` or `[fd00::1]:80`. */
export function formatSocketAddress(address: SocketAddress): string {
  return address.ip.includes(":") ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** Parses what {@link formatSocketAddress} writes, canonicalizing the address; undefined if it is anything else. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const bracketed = match[1];
  const host = bracketed ?? match[2] ?? "";
  const port = Number(match[3]);
  const ip = parseIp(host);
  if (ip === undefined || port > 65535 || (bracketed !== undefined) !== host.includes(":")) return undefined;
  return { ip: formatIp(ip), port };
}

/** The high `bits` bits of a word; all of it above 32, none of it below 1. */
function wordMask(bits: number): number {
  if (bits >= 32) return 0xffffffff;
  return bits <= 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
}

function formatWord(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

const OCTET = /^(?:0|[1-9]\d{0,2})$/;

function parseIpv4(text: string): number | undefined {
  const octets = text.split(".");
  if (octets.length !== 4) return undefined;
  let word = 0;
  for (const octet of octets) {
    const value = OCTET.test(octet) ? Number(octet) : 256;
    if (value > 255) return undefined;
    word = word * 256 + value;
  }
  return word;
}

/** RFC 4291 §2.2, all three forms. */
function parseIpv6(text: string): number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const gap = 8 - head.length - tail.length;
  // `::` stands for at least one group.
  if (halves.length === 2 ? gap < 1 : gap !== 0) return undefined;
  const groups = [...head, ...new Array<number>(gap).fill(0), ...tail];
  const words: number[] = [];
  for (let i = 0; i < 8; i += 2) words.push(((groups[i] as number) * 0x10000 + (groups[i + 1] as number)) >>> 0);
  return words;
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    if (mayEndInIpv4 && i === parts.length - 1 && part.includes(".")) {
      const word = parseIpv4(part);
      if (word === undefined) return undefined;
      groups.push(word >>> 16, word & 0xffff);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}
