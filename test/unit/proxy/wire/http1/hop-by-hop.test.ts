import { describe, expect, test } from "vitest";
import { isUpgradeRequest, stripHopByHop } from "../../../../../src/proxy/wire/http1/index.ts";
import { headers, requestHead } from "../../../../support/http1.ts";

function stripped(...fields: [string, string][]): string[] {
  const list = headers(...fields);
  expect(stripHopByHop(list)).toBeUndefined();
  return list.names.map((name, i) => `${name.lower}=${list.values[i]}`);
}

describe("stripHopByHop", () => {
  test("leaves ordinary fields alone", () => {
    expect(stripped(["Host", "a"], ["X", "y"])).toEqual(["host=a", "x=y"]);
  });
  test("removes what Connection names, and the usual suspects", () => {
    expect(stripped(["Connection", "X-A, x-b"], ["X-A", "1"], ["x-B", "2"], ["Keep-Alive", "5"], ["X-C", "3"])).toEqual(
      ["x-c=3"],
    );
    expect(stripped(["Proxy-Connection", "close"], ["Upgrade", "h2c"], ["HTTP2-Settings", "AA"])).toEqual([]);
  });
  test("reads every Connection field", () => {
    expect(stripped(["Connection", "a"], ["Connection", "b"], ["A", "1"], ["B", "2"])).toEqual([]);
  });
  test("leaves the coding to the machines, and identity to nobody but us", () => {
    expect(stripped(["Connection", "l5d-client-id"], ["l5d-client-id", "x"], ["Transfer-Encoding", "chunked"])).toEqual(
      ["l5d-client-id=x", "transfer-encoding=chunked"],
    );
  });
  test("keeps of TE only trailers", () => {
    expect(stripped(["TE", "trailers"], ["Connection", "te"])).toEqual(["te=trailers"]);
    expect(stripped(["TE", "gzip"], ["TE", "deflate, Trailers"])).toEqual(["te=trailers"]);
    expect(stripped(["TE", "gzip"])).toEqual([]);
  });
  test.each(["Host", "content-length", "x, TRANSFER-ENCODING"])(
    "refuses Connection: %s and changes nothing",
    (value) => {
      const list = headers(["Connection", value], ["X", "y"]);
      expect(stripHopByHop(list)).toBe(value.split(", ").at(-1)?.toLowerCase());
      expect(list.length).toBe(2);
    },
  );
});

describe("isUpgradeRequest", () => {
  const upgrade = (value: string) => requestHead({ headers: headers(["Host", "a"], ["Upgrade", value]) });
  test("Upgrade and CONNECT in 1.1", () => {
    expect(isUpgradeRequest(upgrade("websocket"))).toBe(true);
    expect(isUpgradeRequest(requestHead({ method: "CONNECT" }))).toBe(true);
    expect(isUpgradeRequest(requestHead())).toBe(false);
  });
  test("not in 1.0 or 2", () => {
    expect(isUpgradeRequest({ ...upgrade("websocket"), version: "1.0" })).toBe(false);
    expect(isUpgradeRequest({ ...upgrade("websocket"), version: "2" })).toBe(false);
  });
  test("not to HTTP/2, alone or among others", () => {
    for (const value of ["h2c", "H2C", "websocket, h2c", "h2c,websocket"]) {
      expect(isUpgradeRequest(upgrade(value))).toBe(false);
    }
    expect(isUpgradeRequest(upgrade("h2cc"))).toBe(true);
  });
});
