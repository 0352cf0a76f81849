import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  canonicalIp,
  cidrContains,
  formatCidr,
  formatIp,
  formatSocketAddress,
  type Ip,
  makeCidr,
  parseCidr,
  parseIp,
  parseSocketAddress,
} from "../../../../src/proxy/core/address.ts";

const word = fc.integer({ min: 0, max: 0xffffffff });
const ipv4 = word.map((value): Ip => ({ version: 4, words: [value] }));
const ipv6 = fc
  .array(fc.oneof(word, fc.constantFrom(0, 1, 0xffff0000)), { minLength: 4, maxLength: 4 })
  .filter((words) => !(words[0] === 0 && words[1] === 0 && words[2] === 0xffff))
  .map((words): Ip => ({ version: 6, words }));
const ip = fc.oneof(ipv4, ipv6);

const bit = (address: Ip, i: number): number => ((address.words[i >> 5] as number) >>> (31 - (i & 31))) & 1;

describe("addresses", () => {
  it("parse ∘ format = identity", () => {
    fc.assert(
      fc.property(ip, (address) => {
        expect(parseIp(formatIp(address))).toEqual(address);
      }),
    );
  });

  it("agree with the platform's spelling of IPv6", () => {
    fc.assert(
      fc.property(ipv6, (address) => {
        const text = formatIp(address);
        expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
      }),
    );
  });

  it("come back from a socket address", () => {
    fc.assert(
      fc.property(ip, fc.integer({ min: 0, max: 65_535 }), (address, port) => {
        const value = { ip: formatIp(address), port };
        expect(parseSocketAddress(formatSocketAddress(value))).toEqual(value);
      }),
    );
  });

  it("never throw for what a stranger writes", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."0123456789abcdef:.[]/%") }), (text) => {
        const canonical = canonicalIp(text);
        if (canonical !== undefined) expect(canonicalIp(canonical)).toBe(canonical);
        parseCidr(text);
        parseSocketAddress(text);
      }),
    );
  });
});

describe("networks", () => {
  const cidr = ip.chain((address) =>
    fc.integer({ min: 0, max: address.words.length * 32 }).map((prefix) => ({ address, prefix })),
  );

  it("hold exactly the addresses that share their prefix", () => {
    fc.assert(
      fc.property(cidr, ip, fc.nat(), ({ address, prefix }, other, flip) => {
        const network = makeCidr(address, prefix);
        if (network === undefined) throw new Error("fits");
        expect(cidrContains(network, address)).toBe(true);
        expect(parseCidr(formatCidr(network))).toEqual(network);
        let shares = other.version === address.version;
        for (let i = 0; shares && i < prefix; i++) shares = bit(other, i) === bit(address, i);
        expect(cidrContains(network, other)).toBe(shares);
        // One bit turned matters if and only if it is within the prefix.
        const at = flip % (address.words.length * 32);
        const words = address.words.map((value, i) =>
          i === at >> 5 ? (value ^ (1 << (31 - (at & 31)))) >>> 0 : value,
        );
        expect(cidrContains(network, { version: address.version, words })).toBe(at >= prefix);
      }),
    );
  });
});
