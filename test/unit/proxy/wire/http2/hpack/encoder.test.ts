import { describe, expect, it } from "vitest";
import { type HeaderName, headerName, HeaderName as Name } from "../../../../../../src/proxy/core/header.ts";
import { HeaderBlock, HpackDecoder, HpackEncoder } from "../../../../../../src/proxy/wire/http2/hpack/index.ts";
import { blockFields, encodeBlock } from "../../../../../support/hpack.ts";
import type { Fields } from "../../../../../support/http2.ts";

const REQUEST: Fields = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/shop.Cart/Add"],
  [":authority", "web.shop.svc.cluster.local:8080"],
  ["content-type", "application/grpc"],
  ["te", "trailers"],
  ["user-agent", "grpc-go/1.70"],
  ["x-request-id", "1"],
];

/** An encoder with its peer's decoder: what one writes the other reads. */
class Pair {
  readonly encoder = new HpackEncoder();
  readonly decoder: HpackDecoder;
  readonly #block = new HeaderBlock(1 << 20);
  constructor(tableBytes = 4096) {
    this.decoder = new HpackDecoder(tableBytes);
    this.encoder.resize(tableBytes);
  }
  /** @returns the number of bytes the fields took. */
  send(fields: Fields): number {
    const bytes = encodeBlock(this.encoder, fields);
    this.decoder.decode(bytes, 0, bytes.length, this.#block);
    expect(blockFields(this.#block).sort()).toEqual([...fields].map((field) => [...field]).sort());
    expect(this.#block.fault).toBeUndefined();
    return bytes.length;
  }
}

function firstByte(fields: Fields, encoder = new HpackEncoder()): number {
  return encodeBlock(encoder, fields)[0] as number;
}

describe("what repeats", () => {
  it("becomes one byte per field", () => {
    const pair = new Pair();
    pair.send(REQUEST);
    // The path is ever-changing until it comes a second time.
    pair.send(REQUEST);
    expect(pair.send(REQUEST)).toBe(REQUEST.length);
  });

  it("uses the static table from the first time on", () => {
    expect(
      encodeBlock(new HpackEncoder(), [
        [":status", "404"],
        [":method", "GET"],
        [":path", "/"],
        ["accept-encoding", "gzip, deflate"],
      ]),
    ).toEqual(Buffer.from([0x8d, 0x82, 0x84, 0x90]));
  });
});

describe("what changes every time", () => {
  it("does not push the rest out of the table", () => {
    const pair = new Pair();
    for (let i = 0; i < 2000; i++) {
      pair.send([
        ...REQUEST.slice(0, 2),
        [":path", `/${i}`],
        ...REQUEST.slice(3, 7),
        ["x-request-id", `id-${i}`],
        ["x-own", `own-${i}`],
      ]);
    }
    const changing = pair.send([
      [":path", "/other"],
      ["x-request-id", "other"],
      ["x-own", "other"],
    ]);
    const whole = pair.send([
      ...REQUEST.slice(0, 2),
      [":path", "/last"],
      ...REQUEST.slice(3, 7),
      ["x-request-id", "last"],
      ["x-own", "last"],
    ]);
    expect(whole).toBeLessThan(changing + 6);
  });

  it("is indexed once a value comes again, also between others", () => {
    const pair = new Pair();
    const path = (text: string) => pair.send([[":path", text]]);
    path("/a");
    path("/b");
    path("/a");
    expect(path("/a")).toBe(1);
    path("/b");
    expect(path("/b")).toBe(1);
    expect(path("/a")).toBe(1);
  });

  it("values too large for the table are sent as they are", () => {
    const pair = new Pair();
    const size = pair.send([["x-large", "v".repeat(5000)]]);
    expect(pair.send([["x-large", "v".repeat(5000)]])).toBe(size);
    expect(pair.decoder.tableSize).toBe(0);
  });
});

describe("secrets (RFC 7541 §7.1.3)", () => {
  it.each([
    ["authorization", "Bearer 0123456789"],
    ["proxy-authorization", "Basic x"],
    ["cookie", "short"],
  ])("%s is never indexed", (name, value) => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 3; i++) expect(firstByte([[name, value]], encoder) & 0xf0).toBe(0x10);
  });

  it("a long cookie is", () => {
    expect(firstByte([["cookie", "v".repeat(40)]]) & 0xc0).toBe(0x40);
  });

  it("what the sender did not want indexed is not indexed on the next hop", () => {
    const buffer = Buffer.alloc(64);
    const name = headerName("x-token") as HeaderName;
    const twin = new Name(name.spelled, name.lower, name, false);
    twin.neverIndexed = true;
    const encoder = new HpackEncoder();
    encoder.field(buffer, encoder.begin(buffer, 0), twin, "secret");
    expect((buffer[0] as number) & 0xf0).toBe(0x10);
  });
});

describe("the peer's table size (RFC 7541 §4.2)", () => {
  it("is told at the head of the next block: the smallest, then the last", () => {
    const encoder = new HpackEncoder();
    encoder.resize(0);
    encoder.resize(1000);
    expect(encodeBlock(encoder, [[":method", "GET"]]).toString("hex")).toBe("203fc90782");
    expect(encodeBlock(encoder, [[":method", "GET"]]).toString("hex")).toBe("82");
  });

  it("is never taken beyond our own bound", () => {
    const encoder = new HpackEncoder();
    encoder.resize(0xffff_ffff);
    expect(encodeBlock(encoder, [[":method", "GET"]]).toString("hex")).toBe("82");
  });

  it("may change at any time", () => {
    const pair = new Pair();
    for (const size of [4096, 0, 100, 4096, 50, 0, 4096, 200]) {
      pair.encoder.resize(size);
      for (let i = 0; i < 20; i++) pair.send([...REQUEST, ["x-a", `${i % 3}`], ["x-b", `${i}`]]);
      expect(pair.decoder.tableSize).toBeLessThanOrEqual(size);
    }
  });
});

describe("names", () => {
  it("are written in lower case and share their entries", () => {
    const encoder = new HpackEncoder();
    const buffer = Buffer.alloc(128);
    let at = encoder.field(buffer, 0, headerName("X-Own") as HeaderName, "1");
    const first = at;
    at = encoder.field(buffer, at, headerName("x-own") as HeaderName, "1");
    expect(at - first).toBe(1);
    const block = new HeaderBlock(4096);
    new HpackDecoder(4096).decode(buffer, 0, at, block);
    expect(blockFields(block)).toEqual([
      ["x-own", "1"],
      ["x-own", "1"],
    ]);
  });

  it("beyond any number are sent, but not learned", () => {
    const pair = new Pair();
    for (let i = 0; i < 1000; i++) pair.send([[`x-many-${i}`, "v"]]);
    const secret = encodeBlock(pair.encoder, [["authorization", "s"]]);
    expect((secret[0] as number) & 0xf0).toBe(0x10);
  });
});
