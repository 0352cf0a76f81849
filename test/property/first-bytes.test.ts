import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { detectHttp } from "../../src/proxy/wire/http1/index.ts";
import { decodeClientHello } from "../../src/proxy/wire/tls/index.ts";
import { decodeTransportHeader, encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { alpn, clientHello, serverName } from "../support/client-hello.ts";

const label = fc.stringMatching(/^[a-z](?:[a-z0-9-]{0,20}[a-z0-9])?$/);
const dnsName = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join("."));

/** Changes some bytes, and cuts. */
function spoiled(bytes: Buffer, changes: readonly [number, number][], keep: number): Buffer {
  const copy = Buffer.from(bytes);
  for (const [at, byte] of changes) copy[at % copy.length] = byte;
  return copy.subarray(0, Math.ceil(copy.length * keep));
}

const changes = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 });
const keep = fc.double({ min: 0, max: 1, noNaN: true });

describe("transport header", () => {
  const header = fc.record({
    port: fc.integer({ min: 1, max: 65_535 }),
    name: fc.option(dnsName, { nil: undefined }),
    protocol: fc.constantFrom("http1" as const, "http2" as const, undefined),
  });

  test("what is encoded is decoded, whatever follows it", () => {
    fc.assert(
      fc.property(header, fc.uint8Array({ maxLength: 40 }), (value, rest) => {
        const bytes = encodeTransportHeader(value);
        expect(decodeTransportHeader(Buffer.concat([bytes, rest]))).toEqual({
          kind: "done",
          value,
          consumed: bytes.length,
        });
      }),
    );
  });

  test("spoiled bytes get an honest answer", () => {
    fc.assert(
      fc.property(header, changes, keep, (value, all, part) => {
        const bytes = spoiled(encodeTransportHeader(value), all, part);
        const decoded = decodeTransportHeader(bytes);
        if (decoded.kind === "more") expect(decoded.atLeast).toBeGreaterThan(bytes.length);
        if (decoded.kind === "done") expect(decoded.consumed).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("ClientHello", () => {
  const hello = fc.record({
    name: fc.option(dnsName, { nil: undefined }),
    protocols: fc.array(fc.stringMatching(/^[a-z0-9./]{1,20}$/), { maxLength: 5 }),
    recordBytes: fc.integer({ min: 1, max: 400 }),
  });
  type Hello = typeof hello extends fc.Arbitrary<infer T> ? T : never;
  const encode = ({ name, protocols, recordBytes }: Hello) =>
    clientHello({
      extensions: [...(name === undefined ? [] : [serverName(name)]), alpn(...protocols)],
      recordBytes,
    });

  test("name and protocols come out, over any records", () => {
    fc.assert(
      fc.property(hello, keep, (one, part) => {
        const bytes = encode(one);
        expect(decodeClientHello(bytes)).toEqual({
          kind: "done",
          value: { serverName: one.name, alpn: one.protocols },
          consumed: bytes.length,
        });
        const start = bytes.subarray(0, Math.floor((bytes.length - 1) * part));
        expect(decodeClientHello(start).kind).toBe("more");
      }),
    );
  });

  test("spoiled bytes get an honest answer", () => {
    fc.assert(
      fc.property(hello, changes, keep, (one, all, part) => {
        const bytes = spoiled(encode(one), all, part);
        const decoded = decodeClientHello(bytes);
        if (decoded.kind === "more") expect(decoded.atLeast).toBeGreaterThan(bytes.length);
        if (decoded.kind === "done") expect(decoded.consumed).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("detection", () => {
  test("a verdict stays when more bytes come", () => {
    const first = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((one) => Buffer.from(one)),
      fc
        .stringMatching(/^[\r\n ]{0,3}[A-Zget]{1,7}[ \t]?[/a-z*:]{0,10} ?(?:HTTP\/1\.1)?\r?\n?$/)
        .map((one) => Buffer.from(one)),
    );
    fc.assert(
      fc.property(first, (bytes) => {
        let last = "more";
        for (let end = 0; end <= bytes.length; end++) {
          const now = detectHttp(bytes.subarray(0, end));
          if (last !== "more") expect(now).toBe(last);
          last = now;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
