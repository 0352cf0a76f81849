import { canonicalIp } from "./address.ts";

/** `host[:port]` of a request, normalized once: host in lower case, IPv6 without brackets. */
export interface Authority {
  readonly host: string;
  /** 0–65535; undefined where none was given. */
  readonly port: number | undefined;
}

/**
 * Splits `host[:port]`. The host is lower-cased and, if it is an IP address, canonical; a trailing dot stays.
 * @returns undefined for userinfo, an empty host, a bad port or a bad bracket.
 * @see RFC 3986 §3.2
 */
export function parseAuthority(text: string): Authority | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:@[\]/?#\s]+))(?::(\d{0,5}))?$/.exec(text);
  if (match === null) return undefined;
  const port = match[3] === undefined || match[3] === "" ? undefined : Number(match[3]);
  if (port !== undefined && port > 65535) return undefined;
  if (match[1] !== undefined) {
    const ip = canonicalIp(match[1]);
    return ip === undefined ? undefined : { host: ip, port };
  }
  return { host: (match[2] as string).toLowerCase(), port };
}

/** `host`, `host:port` or `[v6]:port`. */
export function formatAuthority(authority: Authority): string {
  const host = authority.host.includes(":") ? `[${authority.host}]` : authority.host;
  return authority.port === undefined ? host : `${host}:${authority.port}`;
}

/** The host of `host[:port]` without brackets, not lower-cased and not checked: for matching, which must not allocate. */
export function authorityHost(text: string): string {
  if (text.charCodeAt(0) === 0x5b /* [ */) {
    const end = text.indexOf("]");
    return end < 0 ? text : text.slice(1, end);
  }
  const colon = text.lastIndexOf(":");
  return colon < 0 ? text : text.slice(0, colon);
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * Whether text is a DNS name as the mesh uses it for identities and SNI: labels of letters, digits, `_` and inner
 * `-`, 253 bytes at most, the last label not a number, no wildcard, no trailing dot. Upper case is fine.
 */
export function isDnsName(text: string): boolean {
  if (text.length === 0 || text.length > 253) return false;
  const labels = text.toLowerCase().split(".");
  return labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels[labels.length - 1] as string);
}
