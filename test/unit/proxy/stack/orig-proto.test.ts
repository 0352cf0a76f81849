import { describe, expect, it } from "vitest";
import { HeaderList, type HeaderName, headerName } from "../../../../src/proxy/core/header.ts";
import { joinCookies } from "../../../../src/proxy/stack/orig-proto.ts";

function list(...fields: [string, string][]): HeaderList {
  const headers = new HeaderList();
  for (const [name, value] of fields) headers.add(headerName(name) as HeaderName, value);
  return headers;
}

const lines = (headers: HeaderList) => headers.names.map(({ lower }, i) => `${lower}: ${headers.values[i]}`);

describe("RFC 9113 §8.2.3: Cookie on its way to HTTP/1", () => {
  it("becomes one field, where the first was", () => {
    const headers = list(
      ["cookie", "a=1"],
      ["x", "1"],
      ["cookie", "b=2"],
      ["cookie", ""],
      ["y", "2"],
      ["cookie", "c=3"],
    );
    joinCookies(headers);
    expect(lines(headers)).toEqual(["cookie: a=1; b=2; ; c=3", "x: 1", "y: 2"]);
  });

  it("one or none is left as it is", () => {
    for (const fields of [[], [["x", "1"]], [["Cookie", "a=1"]]] as [string, string][][]) {
      const headers = list(...fields);
      joinCookies(headers);
      expect(headers.values).toEqual(fields.map(([, value]) => value));
    }
  });
});
