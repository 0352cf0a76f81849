import { parseIp } from "../../proxy/core/address.ts";

/** Whom an address stands for where sources are counted: one host owns a whole IPv6 /64, and counts as one. */
export function sourceKey(address: string): string {
  const ip = parseIp(address.replace(/%.*$/, ""));
  if (ip === undefined || ip.version === 4) return address;
  const [high = 0, low = 0] = ip.words;
  return `${(high >>> 0).toString(16)}:${(low >>> 0).toString(16)}/64`;
}
