import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { net } from "../../../../src/proto/index.ts";
import { type Ip, parseIp } from "../../../../src/proxy/core/address.ts";
import { decodeIp, encodeIp } from "../../../../src/proxy/discovery/net.ts";

describe("addresses in messages", () => {
  it("come back as they were", () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    const ip: fc.Arbitrary<Ip> = fc.oneof(
      word.map((value): Ip => ({ version: 4, words: [value] })),
      fc.array(word, { minLength: 4, maxLength: 4 }).map((words): Ip => ({ version: 6, words })),
    );
    fc.assert(
      fc.property(ip, (address) => {
        expect(decodeIp(create(net.IPAddressSchema, encodeIp(address)))).toEqual(address);
      }),
    );
  });

  it("carry the first octet as the most significant", () => {
    expect(encodeIp(parseIp("10.1.2.3") as Ip)).toEqual({ ip: { case: "ipv4", value: 0x0a010203 } });
    expect(encodeIp(parseIp("fd00::1") as Ip)).toEqual({
      ip: { case: "ipv6", value: { first: 0xfd00n << 48n, last: 1n } },
    });
  });

  it("are IPv4 when they are mapped", () => {
    const mapped = create(net.IPAddressSchema, { ip: { case: "ipv6", value: { first: 0n, last: 0xffff_0a00_0001n } } });
    expect(decodeIp(mapped)).toEqual(parseIp("10.0.0.1"));
  });
});
