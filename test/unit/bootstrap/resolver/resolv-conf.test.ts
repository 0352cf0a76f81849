import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { caveats, withoutStub, withStub } from "../../../../src/bootstrap/resolver/index.ts";

describe("the stub in resolv.conf", () => {
  it("goes in and out without a trace, whatever is in the file", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(withoutStub(withStub(text))).toBe(text);
        expect(withStub(withStub(text))).toBe(withStub(text));
      }),
    );
  });

  it.each([
    ["nameserver 192.0.2.1\n", []],
    ["nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n", ["192.0.2.3 is not asked any more"]],
    ["search example.org\n", ["no other server"]],
    ["nameserver 192.0.2.1\noptions edns0 rotate\n", ["rotate"]],
  ])("%j needs a word of warning: %j", (text, words) => {
    const said = caveats(withStub(text));
    expect(said).toHaveLength(words.length);
    for (const [i, word] of words.entries()) expect(said[i]).toContain(word);
  });
});
