import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../../../../../src/proxy/core/errors.ts";
import { H } from "../../../../../../src/proxy/core/header.ts";
import { ErrorCode } from "../../../../../../src/proxy/wire/http2/errors.ts";
import { HeaderBlock, HpackDecoder } from "../../../../../../src/proxy/wire/http2/hpack/index.ts";
import { blockFields } from "../../../../../support/hpack.ts";
import { type Fields, literalBlock } from "../../../../../support/http2.ts";
import vectors from "../../../../../vectors/hpack-rfc7541.json" with { type: "json" };

function decode(decoder: HpackDecoder, hex: string, block = new HeaderBlock(16_384)): HeaderBlock {
  const bytes = Buffer.from(hex, "hex");
  decoder.decode(bytes, 0, bytes.length, block);
  return block;
}

function failure(hex: string, tableBytes = 4096): ProtocolError {
  try {
    decode(new HpackDecoder(tableBytes), hex);
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

interface Block {
  readonly hex: string;
  readonly fields: Fields;
  readonly tableSize?: number;
}

describe("RFC 7541 appendix C", () => {
  for (const { section, blocks, tableBytes } of vectors.cases) {
    it(section, () => {
      const decoder = new HpackDecoder(tableBytes ?? 4096);
      for (const { hex, fields, tableSize } of blocks as unknown as Block[]) {
        expect(blockFields(decode(decoder, hex))).toEqual(fields);
        if (tableSize !== undefined) expect(decoder.tableSize).toBe(tableSize);
      }
    });
  }

  it("C.2.3: a field never to be indexed says so to the next hop", () => {
    const { headers } = decode(new HpackDecoder(4096), "100870617373776f726406736563726574");
    expect(headers.names[0]?.neverIndexed).toBe(true);
    expect(headers.names[0]?.canonical.neverIndexed).toBe(false);
    expect(headers.getByLower("password")).toBe("secret");
    const known = decode(new HpackDecoder(4096), "1f08026869").headers;
    expect(known.names[0]?.canonical).toBe(headerNameOf("authorization"));
  });
});

function headerNameOf(lower: string) {
  return decode(new HpackDecoder(4096), literalBlock([[lower, "x"]]).toString("hex")).headers.names[0];
}

describe("a block that came before", () => {
  // Literals with incremental indexing.
  const A1 = "4001610131";
  const B2 = "4001620132";

  it("means the same, as often as it comes", () => {
    const decoder = new HpackDecoder(4096);
    decode(decoder, A1);
    for (let i = 0; i < 5; i++) {
      const block = decode(decoder, "828684be");
      expect(blockFields(block)).toEqual([
        [":method", "GET"],
        [":scheme", "http"],
        [":path", "/"],
        ["a", "1"],
      ]);
      expect([block.size, block.hasPseudo]).toEqual([42 + 43 + 38 + 34, true]);
      // Whoever gets it may change it.
      block.headers.remove("a");
      block.headers.set(H.date, "x");
    }
  });

  it("is not another one of its length", () => {
    const decoder = new HpackDecoder(4096);
    for (let i = 0; i < 4; i++) {
      expect(decode(decoder, "82").method).toBe("GET");
      expect(decode(decoder, "83").method).toBe("POST");
      expect(decode(decoder, "83").method).toBe("POST");
      expect(decode(decoder, "838684").path).toBe("/");
      expect(decode(decoder, "838685").path).toBe("/index.html");
    }
  });

  it("means what the table says now", () => {
    const decoder = new HpackDecoder(4096);
    decode(decoder, A1);
    for (let i = 0; i < 3; i++) expect(blockFields(decode(decoder, "be"))).toEqual([["a", "1"]]);
    decode(decoder, B2);
    for (let i = 0; i < 3; i++) expect(blockFields(decode(decoder, "be"))).toEqual([["b", "2"]]);
    decode(decoder, "20");
    expect(() => decode(decoder, "be")).toThrow(ProtocolError);
  });

  it("is wrong as often as it comes", () => {
    const decoder = new HpackDecoder(4096);
    for (let i = 0; i < 4; i++) expect(decode(decoder, "8282").fault).toBe("pseudo-header repeated");
    for (let i = 0; i < 4; i++) expect(decode(decoder, "8286", new HeaderBlock(60)).oversized).toBe(true);
  });
});

describe("errors that part the tables", () => {
  it.each([
    ["§2.3.3 index 0", "80"],
    ["§2.3.3 index beyond the tables", "be"],
    ["§2.3.3 name index beyond the tables", "7f00026869"],
    ["§4.2 size update after a field", "8220"],
    ["§4.2 three size updates", "20202082"],
    ["§6.3 size update beyond the announced size", "3fe21f"],
    ["§5.1 an integer that does not end", "ff"],
    ["§5.1 an integer of five continuation octets", "ff8080808001"],
    ["§5.2 a string beyond the block", "4003616263056869"],
    ["§5.2 a block that ends after a name", "400161"],
    ["§5.2 Huffman text with EOS", "400161 84ffffffff".replace(" ", "")],
    ["§5.2 Huffman text with a padding of zeros", "40016181 18".replace(" ", "")],
  ])("%s", (_name, hex) => {
    const error = failure(hex);
    expect(error.code).toBe(ErrorCode.compressionError);
    expect(error.scope).toBe("connection");
  });

  it("allows two size updates at the head of a block", () => {
    expect(blockFields(decode(new HpackDecoder(4096), "203fe11f82"))).toEqual([[":method", "GET"]]);
  });

  it("a table of 0 keeps nothing", () => {
    const decoder = new HpackDecoder(0);
    decode(decoder, "40016101 62".replace(" ", ""));
    expect(decoder.tableSize).toBe(0);
  });
});

describe("malformed fields", () => {
  const fault = (fields: Fields) => decode(new HpackDecoder(4096), literalBlock(fields).toString("hex")).fault;

  it.each([
    ["upper case", "X-a", "1"],
    ["empty name", "", "1"],
    ["space in a name", "a b", "1"],
    ["trailing space in a name", "content-length ", "1"],
    ["colon in a name", "x:y", "1"],
    ["CRLF in a name", "a\r\nb", "1"],
    ["octet beyond ASCII in a name", "\xe4", "1"],
    ["unknown pseudo-header", ":x", "1"],
    ["NUL", "a", "x\0y"],
    ["CR", "a", "x\ry"],
    ["LF", "a", "x\ny"],
    ["DEL", "a", "x\x7f"],
    ["leading space", "a", " x"],
    ["trailing tab", "a", "x\t"],
    ["only a space", "a", " "],
    ["connection", "connection", "close"],
    ["transfer-encoding", "transfer-encoding", "chunked"],
    ["te", "te", "gzip"],
    ["content-length with a sign", "content-length", "+1"],
    ["content-length empty", "content-length", ""],
    ["content-length beyond 2^53", "content-length", "18446744073709551621"],
    ["content-length as a list", "content-length", "5, 5"],
    [":status of two digits", ":status", "20"],
    [":status 600", ":status", "600"],
    [":authority empty", ":authority", ""],
    [":authority with userinfo", ":authority", "u@a"],
    [":authority with a path", ":authority", "a/b"],
    [":authority with a port of letters", ":authority", "a:x"],
    [":path without a slash", ":path", "a"],
    [":path with a fragment", ":path", "/a#b"],
    [":path with a space", ":path", "/a b"],
    [":scheme with more", ":scheme", "http://b/?"],
    [":method in lower case", ":method", "get"],
  ])("%s", (_name, name, value) => {
    expect(fault([[name, value]])).toBeDefined();
  });

  it.each([
    ["a", ""],
    ["a", "x\ty"],
    ["a", "\xe4\xff"],
    ["te", "trailers"],
    ["host", ""],
    [":authority", "[::1]:80"],
    [":authority", "[fe80::1%25eth0]:80"],
    [":authority", "a:"],
    [":path", "*"],
    [":path", "/\xe4?a=b%20c"],
    [":scheme", "h2+x"],
    [":method", "M-SEARCH"],
    ["content-length", "0"],
  ])("takes %s: %s", (name, value) => {
    expect(fault([[name, value]])).toBeUndefined();
  });

  it("an entry keeps its verdict", () => {
    const decoder = new HpackDecoder(4096);
    expect(decode(decoder, "4001610178").fault).toBeUndefined();
    expect(decode(decoder, "40016101 0a".replace(" ", "")).fault).toBe("control character in a value");
    expect(decode(decoder, "be").fault).toBe("control character in a value");
    expect(decode(decoder, "bf").fault).toBeUndefined();
  });

  it("the static table's empty values are judged as well", () => {
    expect(decode(new HpackDecoder(4096), "81").fault).toBe("malformed :authority");
    expect(decode(new HpackDecoder(4096), "9c").fault).toBe("malformed content-length");
    expect(decode(new HpackDecoder(4096), "b9").fault).toBe("connection-specific field");
  });
});

describe("a list beyond the bound", () => {
  it("is counted, not kept", () => {
    const decoder = new HpackDecoder(4096);
    const value = "v".repeat(4000);
    const first = literalBlock([["x", value]]);
    first[0] = 0x40;
    const block = decode(decoder, first.toString("hex"));
    expect(block.oversized).toBe(false);
    decode(decoder, "be".repeat(60_000), block);
    expect(block.oversized).toBe(true);
    expect(block.headers.length).toBe(4);
    expect(decode(decoder, "be", block).headers.get(H.host)).toBeUndefined();
    expect(block.oversized).toBe(false);
  });
});

describe("tables", () => {
  it("§2.3.2 an entry may be there twice", () => {
    const decoder = new HpackDecoder(4096);
    // Twice `x: 1` with indexing, then both by their index.
    const entry = "4001780131";
    expect(blockFields(decode(decoder, `${entry}${entry}bebf`))).toEqual([
      ["x", "1"],
      ["x", "1"],
      ["x", "1"],
      ["x", "1"],
    ]);
    expect(decoder.tableSize).toBe(68);
  });

  it("§2.1 fields keep their order", () => {
    const fields = blockFields(decode(new HpackDecoder(4096), "824001620131400161013200016301334001610134"));
    expect(fields.map(([name]) => name)).toEqual([":method", "b", "a", "c", "a"]);
  });
});
