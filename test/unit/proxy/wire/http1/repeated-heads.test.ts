import fc from "fast-check";
import { expect, test } from "vitest";
import { HeaderList, type HeaderName, headerName } from "../../../../../src/proxy/core/header.ts";
import { FieldMemory } from "../../../../../src/proxy/wire/http1/field-memory.ts";
import { parseFields } from "../../../../../src/proxy/wire/http1/fields.ts";
import { LineWriter } from "../../../../../src/proxy/wire/http1/writer.ts";

/*
 * What was read or written before is found again and not looked at anew. Whatever comes in whatever order, nobody can tell.
 */

const name = (text: string) => headerName(text) as HeaderName;

// Few names and values, so that heads come again and resemble each other; some differ only where a guess might not look.
const NAMES = ["Host", "host", "X-A", "x-a", "Content-Length", "Cookie", "Authorization", "X-Long", "Connection"];
const VALUES = [
  "",
  "7",
  "a",
  "a\tb",
  "é",
  "Ā",
  "x\r\ny: z",
  "abcdefgh-1",
  "abcdefgh-2",
  "Abcdefgh-1",
  "v".repeat(63),
  "v".repeat(65),
];
const fieldsOf = fc.array(fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES)), { maxLength: 5 });
const headOf = fc.record({
  fields: fieldsOf,
  second: fc.constantFrom("/", "/", "/b", "/a?b=c", "/a\r\nb", "/Ā", `/${"long".repeat(9)}`),
  before: fc.constantFrom("", "", "host: x\r\n", "host: y\r\n"),
  own: fc.constantFrom("", "connection: close\r\n"),
  keepsUpgrade: fc.boolean(),
});

const isBad = (text: string) => /[^\t\x20-\x7e\x80-\xff]/.test(text);

test("a head is written as if it were the first one", () => {
  const writer = new LineWriter();
  const buffer = Buffer.alloc(4096);
  fc.assert(
    fc.property(fc.array(headOf, { maxLength: 12 }), (heads) => {
      for (const { fields, second, before, own, keepsUpgrade } of [...heads, ...heads, ...heads]) {
        const headers = new HeaderList();
        for (const [spelled, value] of fields) headers.add(name(spelled), value);
        if (writer.fields(headers, keepsUpgrade) !== undefined) continue;
        if (own !== "") writer.line(own);
        let end = 0;
        let reserved = 0;
        const sink = {
          buffer,
          reserve: (bytes: number) => {
            reserved = bytes;
            return 0;
          },
          commit: (to: number) => {
            end = to;
          },
          append: () => {},
        };
        const isWritten = writer.write(sink, "GET", second, "HTTP/1.1", before);
        const shown = fields.filter(([spelled]) => !/^(content-length|connection)$/i.test(spelled));
        expect(isWritten).toBe(!isBad(second) && !shown.some(([, value]) => isBad(value)));
        if (!isWritten) expect(end).toBe(0);
        else {
          const lines = shown.map(([spelled, value]) => `${spelled}: ${value}\r\n`).join("");
          expect(buffer.toString("latin1", 0, end)).toBe(`GET ${second} HTTP/1.1\r\n${before}${lines}${own}\r\n`);
          expect(end).toBeLessThanOrEqual(reserved);
        }
      }
    }),
  );
});

test("a field is read as if its name had never come before", () => {
  const line = fc.tuple(
    fc.constantFrom("Host", "X-A", "x-a", "Cookie"),
    fc.constantFrom("", " ", "\t", "  "),
    fc.constantFrom("", "v", "value", "value2", "value 2", "v\0", "w".repeat(64), "w".repeat(65)),
    fc.constantFrom("", " ", " \t", "x"),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 20 }), (lines) => {
      const text = lines.map(([spelled, before, value, after]) => `${spelled}:${before}${value}${after}\r\n`).join("");
      const headers = new HeaderList();
      expect(parseFields(`${text}\r\n`, 0, text.length, headers, 100, 400, 431)).toBeUndefined();
      expect(headers.values).toEqual(
        lines.map(([, , value, after]) => `${value}${after}`.replace(/^[ \t]+|[ \t]+$/g, "")),
      );
    }),
  );
});

test("credentials are kept nowhere, other values are", () => {
  for (const spelled of ["authorization", "proxy-authorization", "cookie", "set-cookie", "Set-Cookie"]) {
    expect(name(spelled).remembered("secret")).toBe("secret");
    expect(name(spelled).recent).toBe("");
  }
  expect(name("x-kept").remembered("public")).toBe("public");
  expect(name("x-kept").recent).toBe("public");
});

test("what changes every time is seldom remembered", () => {
  const kept = new Set<string>();
  for (let i = 0; i < 80; i++) {
    name("x-changing").remembered(`${i}`);
    kept.add(name("x-changing").recent);
  }
  expect(kept.size).toBeLessThanOrEqual(11);
});

test("what comes twice is kept, and found only by its own fields", () => {
  const memory = new FieldMemory();
  const names = [name("x-a"), name("content-length")];
  const bytes = Buffer.from("??200 OK\r\nx-a: 1\r\n");
  const keep = (hash: number) => memory.keep(hash, names, ["1", "5"], bytes, 2, 10, 18);
  const found = (...of: Parameters<FieldMemory["find"]>) => memory.find(...of)?.fields.toString();
  expect(keep(77)).toBeUndefined();
  expect(found(77, names, ["1", "5"])).toBeUndefined();
  expect(keep(77)?.whole.toString()).toBe("200 OK\r\nx-a: 1\r\n");
  expect(found(77, names, ["1", "5"])).toBe("x-a: 1\r\n");
  expect(found(77, names, ["1", "6"])).toBe("x-a: 1\r\n");
  expect(found(77, names, ["2", "5"])).toBeUndefined();
  expect(found(77, [name("X-A"), name("content-length")], ["1", "5"])).toBeUndefined();
  expect(found(78, names, ["1", "5"])).toBeUndefined();
  keep(0);
  keep(0);
  expect(found(0, names, ["1", "5"])).toBeUndefined();
});
