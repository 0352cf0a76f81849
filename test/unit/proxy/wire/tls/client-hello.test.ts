import { describe, expect, test } from "vitest";
import { decodeClientHello, MAX_CLIENT_HELLO_BYTES } from "../../../../../src/proxy/wire/tls/index.ts";
import { alpn, clientHello, extension, serverName } from "../../../../support/client-hello.ts";

const NAME = "web.shop.serviceaccount.identity.linkerd.cluster.local";

function done(bytes: Buffer): { serverName: string | undefined; alpn: readonly string[] } {
  const decoded = decodeClientHello(bytes);
  if (decoded.kind !== "done") throw new Error(JSON.stringify(decoded));
  expect(decoded.consumed).toBe(bytes.length);
  return decoded.value;
}

function kind(bytes: Buffer): string {
  return decodeClientHello(bytes).kind;
}

describe("name and protocols", () => {
  test("are read, the name in lower case", () => {
    const bytes = clientHello({ extensions: [serverName(NAME.toUpperCase()), alpn("transport.l5d.io/v1", "h2")] });
    expect(done(bytes)).toEqual({ serverName: NAME, alpn: ["transport.l5d.io/v1", "h2"] });
  });

  test("may be missing", () => {
    expect(done(clientHello({ extensions: [extension(43, Buffer.of(2, 3, 4))] }))).toEqual({
      serverName: undefined,
      alpn: [],
    });
    expect(done(clientHello({ extensions: [] })).serverName).toBeUndefined();
  });

  test("a hello without extensions is decided at once", () => {
    expect(done(clientHello({ extensions: undefined }))).toEqual({ serverName: undefined, alpn: [] });
  });

  test("a hello of an old version is read too: refusing it is the handshake's part", () => {
    expect(done(clientHello({ version: 0x0301, extensions: [serverName("a.b")] })).serverName).toBe("a.b");
  });

  test("GREASE and large extensions are skipped", () => {
    const large = Array.from({ length: 60 }, () => extension(0x0a0a, Buffer.alloc(1000)));
    const bytes = clientHello({ extensions: [...large, serverName(NAME)], recordBytes: 16_384 });
    expect(done(bytes).serverName).toBe(NAME);
  });

  test("200 protocols are only protocols", () => {
    const names = Array.from({ length: 200 }, (_, i) => `p${i}`);
    expect(done(clientHello({ extensions: [alpn(...names)] })).alpn).toEqual(names);
  });

  test("a name that means something to an engine is a name", () => {
    expect(done(clientHello({ extensions: [serverName("__proto__")] })).serverName).toBe("__proto__");
  });

  test("a trailing dot is another name", () => {
    expect(done(clientHello({ extensions: [serverName(`${NAME}.`)] })).serverName).toBe(`${NAME}.`);
  });
});

describe("split", () => {
  const whole = clientHello({ extensions: [serverName(NAME), alpn("h2")] });

  test("anywhere: more is asked for, never more than there is", () => {
    for (let end = 0; end < whole.length; end++) {
      const decoded = decodeClientHello(whole.subarray(0, end));
      expect(decoded.kind).toBe("more");
      if (decoded.kind === "more") {
        expect(decoded.atLeast).toBeGreaterThan(end);
        expect(decoded.atLeast).toBeLessThanOrEqual(whole.length);
      }
    }
  });

  test("over records of any size", () => {
    for (const recordBytes of [1, 2, 3, 5, 64, 100]) {
      const bytes = clientHello({ extensions: [serverName(NAME)], recordBytes });
      expect(done(bytes).serverName).toBe(NAME);
      for (let end = 0; end < bytes.length; end += 7) expect(kind(bytes.subarray(0, end))).toBe("more");
    }
  });

  test("bytes behind the hello belong to the handshake", () => {
    const decoded = decodeClientHello(Buffer.concat([whole, Buffer.of(0x17, 3, 3)]));
    expect(decoded).toMatchObject({ kind: "done", consumed: whole.length });
  });
});

describe("not ours", () => {
  test.each([
    ["plain text", Buffer.from("G")],
    ["SSLv2", Buffer.of(0x80, 0x2e)],
    ["major version", Buffer.of(0x16, 0x02)],
    ["record version", Buffer.of(0x16, 0x03, 0x02)],
    ["empty record", Buffer.of(0x16, 0x03, 0x01, 0, 0)],
    ["record too long", Buffer.of(0x16, 0x03, 0x01, 0x40, 0x01)],
    ["another message", clientHello({ type: 2 })],
    ["another message, before its end", clientHello({ type: 2 }).subarray(0, 6)],
    ["message too long", Buffer.of(0x16, 0x03, 0x01, 0, 4, 1, 1, 0, 1)],
    ["legacy version", clientHello({ version: 0x0203 })],
    ["bytes behind the extensions", clientHello({ extensions: [], tail: Buffer.of(0) })],
    ["IPv4 as name", clientHello({ extensions: [serverName("10.0.0.1")] })],
    ["IPv6 as name", clientHello({ extensions: [serverName("::1")] })],
    ["NUL", clientHello({ extensions: [serverName(`${NAME}\0.x`)] })],
    ["beyond ASCII", clientHello({ extensions: [serverName("\xfcber.test")] })],
    ["wildcard", clientHello({ extensions: [serverName("*.test")] })],
    ["empty name", clientHello({ extensions: [serverName("")] })],
    ["long name", clientHello({ extensions: [serverName("a.".repeat(130).concat("a"))] })],
    ["long label", clientHello({ extensions: [serverName("a".repeat(64))] })],
    ["two names", clientHello({ extensions: [serverName(NAME, "other.test")] })],
    ["two name extensions", clientHello({ extensions: [serverName(NAME), serverName(NAME)] })],
    ["no name in the list", clientHello({ extensions: [serverName()] })],
    ["another kind of name", clientHello({ extensions: [extension(0, Buffer.of(0, 4, 1, 0, 1, 97))] })],
    ["cut extension", clientHello({ extensions: [Buffer.of(0, 0, 0, 9, 0)] })],
    ["half an extension header", clientHello({ extensions: [Buffer.of(0, 16, 0)] })],
    ["cut ALPN", clientHello({ extensions: [extension(16, Buffer.of(0, 3, 9, 97, 98))] })],
    ["ALPN twice", clientHello({ extensions: [alpn("h2"), alpn("h2")] })],
  ])("%s", (_name, bytes) => expect(kind(bytes)).toBe("no"));

  test("a hello that never ends", () => {
    const part = clientHello({ extensions: [extension(21, Buffer.alloc(60_000))], recordBytes: 1 });
    expect(part.length).toBeGreaterThan(MAX_CLIENT_HELLO_BYTES);
    expect(kind(part)).toBe("no");
    expect(kind(part.subarray(0, 60_000))).toBe("more");
  });

  test("lengths that point beyond their message", () => {
    const whole = clientHello({ extensions: [serverName(NAME), alpn("h2")] });
    for (let at = 9; at < whole.length; at++) {
      const bytes = Buffer.from(whole);
      bytes[at] = 0xff;
      expect(["done", "no", "more"]).toContain(kind(bytes));
    }
  });
});
