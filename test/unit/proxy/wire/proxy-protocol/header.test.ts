import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeProxyHeader, MAX_PROXY_HEADER_BYTES } from "../../../../../src/proxy/wire/proxy-protocol/index.ts";

const line = (text: string) => Buffer.from(text, "latin1");
const SIGNATURE = "0d0a0d0a000d0a515549540a";
const binary = (command: number, family: number, rest: string, length = rest.length / 2) =>
  Buffer.from(
    `${SIGNATURE}${command.toString(16)}${family.toString(16).padStart(2, "0")}${length.toString(16).padStart(4, "0")}${rest}`,
    "hex",
  );
const V4 = binary(0x21, 0x11, "c0000201c6336401dc041031");
const V6 = binary(0x21, 0x21, `20010db8${"0".repeat(23)}120010db8${"0".repeat(23)}2dc041031`);
const MAPPED = binary(0x21, 0x21, `${"0".repeat(20)}ffffc0000201${"0".repeat(20)}ffffc6336401dc041031`);

describe("a PROXY protocol header", () => {
  it.each([
    ["version 1, IPv4", line("PROXY TCP4 192.0.2.1 198.51.100.1 56324 4145\r\n"), "192.0.2.1", 56324],
    ["version 1, IPv6", line("PROXY TCP6 2001:DB8::1 2001:db8::2 56324 4145\r\n"), "2001:db8::1", 56324],
    ["version 2, IPv4", V4, "192.0.2.1", 56324],
    ["version 2, IPv6", V6, "2001:db8::1", 56324],
    ["version 2, IPv4 in IPv6 clothes", MAPPED, "192.0.2.1", 56324],
    ["version 2 with TLVs", binary(0x21, 0x11, "c0000201c6336401dc04103103000411223344"), "192.0.2.1", 56324],
  ])("%s names its source, however it is split, and nothing of what follows", (_, bytes, ip, port) => {
    for (let cut = 0; cut < bytes.length; cut++) {
      const part = decodeProxyHeader(bytes.subarray(0, cut));
      expect(part.kind).toBe("more");
      if (part.kind === "more") expect(part.atLeast).toBeGreaterThan(cut);
    }
    const wanted = { kind: "done", value: { source: { ip, port } }, consumed: bytes.length };
    expect(decodeProxyHeader(Buffer.concat([bytes, Buffer.of(22, 3, 1)]))).toEqual(wanted);
  });

  it.each([
    ["version 1, UNKNOWN", line("PROXY UNKNOWN ffff::1 whatever\r\n")],
    ["version 2, LOCAL", binary(0x20, 0, "")],
    ["version 2, a unix socket", binary(0x21, 0x31, "00".repeat(216))],
  ])("%s speaks for the balancer itself", (_, bytes) => {
    expect(decodeProxyHeader(bytes)).toEqual({ kind: "done", value: { source: undefined }, consumed: bytes.length });
  });

  it.each([
    ["a ClientHello", Buffer.of(22, 3, 1, 2, 0, 1)],
    ["a request", line("GET / HTTP/1.1\r\n")],
    ["another word", line("PROXYTCP4 ")],
    ["another family", line("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n")],
    ["an address of the other family", line("PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n")],
    ["octets with zeros in front", line("PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n")],
    ["a port too high", line("PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n")],
    ["a port with a sign", line("PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n")],
    ["too few fields", line("PROXY TCP4 192.0.2.1\r\n")],
    ["too many fields", line("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n")],
    ["two spaces", line("PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n")],
    ["no end of line", line(`PROXY TCP4 ${"1".repeat(107)}`)],
    ["a broken signature", Buffer.from("0d0a0d0a000d0a515549540b", "hex")],
    ["another version", binary(0x31, 0x11, "c0000201c6336401dc041031")],
    ["another command", binary(0x22, 0x11, "c0000201c6336401dc041031")],
    ["addresses cut short", binary(0x21, 0x11, "c0000201c63364")],
    ["a length that asks for 64 KiB", binary(0x21, 0x11, "", 0xffff)],
  ])("is none: %s", (_, bytes) => {
    expect(decodeProxyHeader(bytes).kind).toBe("no");
  });

  it("never throws, never asks for more than its bound, and never changes its mind", () => {
    const start = fc.constantFrom(V4, V6, MAPPED, line("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n"), Buffer.alloc(0));
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 64 }), fc.nat(64), (head, noise, at) => {
        const bytes = Buffer.concat([head.subarray(0, at), noise, head.subarray(at)]);
        const whole = decodeProxyHeader(bytes);
        if (whole.kind === "more") expect(whole.atLeast).toBeLessThanOrEqual(MAX_PROXY_HEADER_BYTES);
        for (let cut = 0; cut < bytes.length; cut++) {
          const part = decodeProxyHeader(bytes.subarray(0, cut));
          if (part.kind === "done") expect(whole).toEqual(part);
          if (part.kind === "no") expect(whole.kind).toBe("no");
        }
      }),
    );
  });
});
