import { formatIp, type Ip, isLoopback, parseIp } from "../../proxy/core/address.ts";

/**
 * The addresses under which a host is registered: of those it names, or else the one it calls from, the first of each
 * family that an EndpointSlice may hold. One that it may not would block the slice of every Service that selects the
 * workload.
 */
export function usableAddresses(named: readonly string[], source: string): readonly string[] {
  const candidates = named.length > 0 ? named : [source];
  const families = new Map<4 | 6, string>();
  for (const text of candidates.slice(0, 16)) {
    const ip = parseIp(text);
    if (ip !== undefined && !families.has(ip.version) && isEndpoint(ip)) families.set(ip.version, formatIp(ip));
  }
  return [...families.values()];
}

/** Kubernetes' rule: not unspecified, loopback, link-local, nor multicast. */
function isEndpoint(ip: Ip): boolean {
  const [first = 0] = ip.words;
  if (ip.version === 4) {
    const top = first >>> 24;
    return first !== 0 && !isLoopback(ip) && top < 224 && first >>> 16 !== 0xa9fe;
  }
  if (ip.words.every((word) => word === 0) || isLoopback(ip)) return false;
  return first >>> 24 !== 0xff && first >>> 22 !== 0xfe80 >>> 6;
}
