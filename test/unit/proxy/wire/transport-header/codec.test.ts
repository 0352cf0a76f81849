import { describe, expect, test } from "vitest";
import {
  decodeTransportHeader,
  encodeTransportHeader,
  type TransportHeader,
} from "../../../../../src/proxy/wire/transport-header/index.ts";

const PREFACE = Buffer.from("transport.l5d.io/v1\r\n\r\n", "latin1");

function framed(hex: string): Buffer {
  const message = Buffer.from(hex.replaceAll(" ", ""), "hex");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([PREFACE, length, message]);
}

const GATEWAY = "foo.ns.svc.cluster.local";
const KNOWN: readonly [string, string, TransportHeader][] = [
  ["HTTP/2", "08 90 3f 1a 02 12 00", { port: 8080, name: undefined, protocol: "http2" }],
  ["HTTP/1", "08 90 3f 1a 02 0a 00", { port: 8080, name: undefined, protocol: "http1" }],
  ["opaque", "08 ea 19", { port: 3306, name: undefined, protocol: undefined }],
  [
    "gateway",
    `08 50 12 18 ${Buffer.from(GATEWAY).toString("hex")} 1a 02 12 00`,
    { port: 80, name: GATEWAY, protocol: "http2" },
  ],
];

describe("the bytes that Linkerd's proxies send", () => {
  test.each(KNOWN)("%s", (_name, hex, value) => {
    const bytes = framed(hex);
    expect(encodeTransportHeader(value)).toEqual(bytes);
    expect(decodeTransportHeader(bytes)).toEqual({ kind: "done", value, consumed: bytes.length });
    const followed = Buffer.concat([bytes, Buffer.from("GET")]);
    expect(decodeTransportHeader(followed)).toEqual({ kind: "done", value, consumed: bytes.length });
    for (let end = 0; end < bytes.length; end++) {
      const decoded = decodeTransportHeader(bytes.subarray(0, end));
      expect(decoded).toMatchObject({ kind: "more", atLeast: end < 27 ? 27 : bytes.length });
    }
  });
});

describe("what other versions may send", () => {
  const port = { port: 1, name: undefined, protocol: undefined };
  test.each<[string, string, TransportHeader]>([
    ["unknown fields of every wire type", "20 01 29 0000000000000000 32 01 00 3d 00000000 08 01", port],
    ["an unknown group", "2b 08 05 33 34 2c 08 01", port],
    ["an empty session protocol", "08 01 1a 00", port],
    ["an empty name", "08 01 12 00", port],
    ["a field twice: the last counts", "08 02 08 01", port],
    ["a kind twice: the last counts", "08 01 1a 04 0a 00 12 00", { ...port, protocol: "http2" }],
    ["a message twice: merged", "08 01 1a 02 12 00 1a 00", { ...port, protocol: "http2" }],
    ["fields inside the empty messages", "08 01 1a 04 0a 02 08 07", { ...port, protocol: "http1" }],
    ["a long varint", "08 81 80 80 80 00", port],
    ["a name with a dot at the end", "08 01 12 02 61 2e", { ...port, name: "a." }],
  ])("%s", (_name, hex, value) => {
    expect(decodeTransportHeader(framed(hex))).toMatchObject({ kind: "done", value });
  });
});

describe("refused", () => {
  test.each([
    ["another preface", Buffer.from("transport.l5d.io/v2")],
    ["another first byte", Buffer.from("G")],
    ["more than 64 KiB", Buffer.concat([PREFACE, Buffer.of(0, 1, 0, 1)])],
    ["nothing, so no port", framed("")],
    ["port 0", framed("08 00")],
    ["port 65536", framed("08 80 80 04")],
    ["a negative port", framed("08 ff ff ff ff ff ff ff ff ff 01")],
    ["a varint without end", framed("08 ff ff ff ff ff ff ff ff ff ff 01")],
    ["a cut varint", framed("08 90")],
    ["a port of another type", framed("0d 01 00 00 00")],
    ["a name of another type", framed("08 01 10 01")],
    ["a cut name", framed("08 01 12 05 61")],
    ["a name that is none", framed("08 01 12 03 61 20 62")],
    ["a name beyond ASCII", framed("08 01 12 02 c3 bc")],
    ["a session protocol of another type", framed("08 01 18 01")],
    ["a broken session protocol", framed("08 01 1a 02 0a 05")],
    ["field number 0", framed("08 01 00 01")],
    ["an unknown wire type", framed("08 01 26 01")],
    ["the end of a group that was not begun", framed("08 01 2c")],
    ["a group without end", framed("08 01 2b 08 01")],
    ["groups ended in the wrong order", framed("08 01 2b 33 2c 34")],
    ["groups within groups", framed(`08 01 ${"2b".repeat(200)}${"2c".repeat(200)}`)],
  ])("%s", (_name, bytes) => expect(decodeTransportHeader(bytes).kind).toBe("no"));
});
