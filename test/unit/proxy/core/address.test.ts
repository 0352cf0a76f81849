import { describe, expect, it } from "vitest";
import {
  canonicalIp,
  cidrContains,
  formatCidr,
  formatSocketAddress,
  type Ip,
  isLoopback,
  parseCidr,
  parseIp,
  parseSocketAddress,
  unmapIp,
} from "../../../../src/proxy/core/address.ts";

const ip = (text: string): Ip => {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
};

const within = (network: string, address: string): boolean => {
  const cidr = parseCidr(network);
  if (cidr === undefined) throw new Error(`not a network: ${network}`);
  return cidrContains(cidr, ip(address));
};

describe("addresses", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["FD00:0:0:0:0:0:0:1", "fd00::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8::1:0:0:1", "2001:db8::1:0:0:1"],
    ["1::", "1::"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["::ffff:a00:1", "10.0.0.1"],
  ])("brings %s into canonical form", (text, canonical) => {
    expect(canonicalIp(text)).toBe(canonical);
  });

  it.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "256.0.0.1",
    "1.2.3.4 ",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "g::",
  ])("refuses %j", (text) => {
    expect(parseIp(text)).toBeUndefined();
  });

  it.each(["1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8", "fe80::1%eth0", "::1.2.3", "1.2.3.4::", "12345::"])(
    "refuses %j as well",
    (text) => {
      expect(parseIp(text)).toBeUndefined();
    },
  );

  it("unmaps what a dual-stack listener reports", () => {
    expect(unmapIp("::ffff:10.77.0.1")).toBe("10.77.0.1");
    expect(unmapIp("::FFFF:10.77.0.1")).toBe("10.77.0.1");
    expect(unmapIp("fd00::1")).toBe("fd00::1");
    expect(unmapIp("10.77.0.1")).toBe("10.77.0.1");
  });

  it("knows loopback", () => {
    expect(["127.0.0.1", "127.255.0.1", "::1"].map((text) => isLoopback(ip(text)))).toEqual([true, true, true]);
    expect(["128.0.0.1", "::2", "::"].map((text) => isLoopback(ip(text)))).toEqual([false, false, false]);
  });

  it.each(["10.0.0.1:80", "[fd00::1]:443", "0.0.0.0:0"])("reads and writes %s", (text) => {
    const address = parseSocketAddress(text);
    expect(address && formatSocketAddress(address)).toBe(text);
  });

  it.each(["10.0.0.1", "10.0.0.1:65536", "fd00::1:80", "[10.0.0.1]:80", "name:80", "[fd00::1]", ":80"])(
    "refuses %s as a socket address",
    (text) => {
      expect(parseSocketAddress(text)).toBeUndefined();
    },
  );
});

describe("networks", () => {
  it.each([
    ["10.0.0.0/8", "10.255.255.255", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["0.0.0.0/0", "203.0.113.9", true],
    ["0.0.0.0/0", "::1", false],
    ["::/0", "fd00::1", true],
    ["::/0", "10.0.0.1", false],
    ["127.0.0.1/32", "127.0.0.2", false],
    ["fd00::/8", "fdff::1", true],
    ["fd00:1:2:3:4::/72", "fd00:1:2:3:4ff::1", false],
    ["fd00:1:2:3:4::/72", "fd00:1:2:3:0:ff::1", true],
    ["::ffff:10.0.0.0", "10.0.0.0", true],
  ])("%s holds %s: %s", (network, address, expected) => {
    expect(within(network, address)).toBe(expected);
  });

  it("clears host bits", () => {
    const cidr = parseCidr("10.1.2.3/12");
    expect(cidr && formatCidr(cidr)).toBe("10.0.0.0/12");
  });

  it.each(["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8 "])("refuses %j", (text) => {
    expect(parseCidr(text)).toBeUndefined();
  });
});
