import { isDeepStrictEqual } from "node:util";
import { canonicalIp } from "../../../src/proxy/core/address.ts";
import { detectHttp } from "../../../src/proxy/wire/http1/index.ts";
import { decodeProxyHeader, MAX_PROXY_HEADER_BYTES } from "../../../src/proxy/wire/proxy-protocol/index.ts";
import { decodeClientHello, MAX_CLIENT_HELLO_BYTES } from "../../../src/proxy/wire/tls/index.ts";
import { decodeTransportHeader, encodeTransportHeader } from "../../../src/proxy/wire/transport-header/index.ts";
import { alpn, clientHello, extension, serverName } from "../../support/client-hello.ts";
import type { FuzzTarget } from "../harness.ts";

const hello: FuzzTarget = {
  name: "client-hello",
  seeds: [
    clientHello(),
    clientHello({ extensions: undefined }),
    clientHello({ extensions: [serverName("a.b"), alpn("h2", "transport.l5d.io/v1")] }),
    clientHello({ extensions: [extension(43, Buffer.of(2, 3, 4)), serverName("a.b")], recordBytes: 10 }),
  ],
  dictionary: [serverName("x.y"), alpn("h2"), Buffer.of(0x16, 3, 1, 0, 1), Buffer.of(0, 0), Buffer.of(0, 16)],
  covers: "src/proxy/wire/tls/",
  run(pieces) {
    let bytes: Buffer = Buffer.alloc(0);
    for (const piece of pieces) {
      bytes = Buffer.concat([bytes, piece]);
      const decoded = decodeClientHello(bytes);
      if (decoded.kind === "more") {
        if (decoded.atLeast <= bytes.length || decoded.atLeast > MAX_CLIENT_HELLO_BYTES)
          throw new Error("asks for nothing");
        continue;
      }
      if (decoded.kind === "no") break;
      const { serverName: name } = decoded.value;
      if (name !== undefined && !/^[a-z0-9_.-]{1,254}$/.test(name))
        throw new Error(`server name ${JSON.stringify(name)}`);
      // Bytes behind the hello change nothing.
      const longer = decodeClientHello(Buffer.concat([bytes.subarray(0, decoded.consumed), Buffer.of(1, 2, 3)]));
      if (!isDeepStrictEqual(longer, decoded)) throw new Error("bytes behind the hello change it");
      break;
    }
    return undefined;
  },
};

const header: FuzzTarget = {
  name: "transport-header",
  seeds: [
    encodeTransportHeader({ port: 8080, name: undefined, protocol: "http2" }),
    encodeTransportHeader({ port: 80, name: "foo.ns.svc.cluster.local", protocol: "http1" }),
    encodeTransportHeader({ port: 3306, name: undefined, protocol: undefined }),
  ],
  dictionary: [
    Buffer.of(0x2b),
    Buffer.of(0x2c),
    Buffer.of(0x08, 0x50),
    Buffer.of(0x12, 1, 0x61),
    Buffer.of(0x1a, 2, 10, 0),
  ],
  covers: "src/proxy/wire/transport-header/",
  run(pieces) {
    const bytes = Buffer.concat(pieces);
    const decoded = decodeTransportHeader(bytes);
    if (decoded.kind === "more" && decoded.atLeast <= bytes.length) throw new Error("asks for nothing");
    if (decoded.kind === "done") {
      // What was understood can be said, and is understood again.
      const again = decodeTransportHeader(encodeTransportHeader(decoded.value));
      if (again.kind !== "done" || !isDeepStrictEqual(again.value, decoded.value))
        throw new Error("understood otherwise");
    }
    return undefined;
  },
};

const detection: FuzzTarget = {
  name: "detect-http",
  seeds: ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "EHLO a\r\n", "\r\nGET /\r\n"].map(
    (text) => Buffer.from(text, "latin1"),
  ),
  dictionary: [Buffer.from(" HTTP/1.1"), Buffer.from("\r\n"), Buffer.from("GET /"), Buffer.from("PRI * ")],
  covers: "src/proxy/wire/http1/",
  run(pieces) {
    let bytes: Buffer = Buffer.alloc(0);
    let verdict = "more";
    for (const piece of pieces) {
      bytes = Buffer.concat([bytes, piece]);
      const now = detectHttp(bytes);
      if (verdict !== "more" && now !== verdict) throw new Error(`${verdict} became ${now}`);
      verdict = now;
    }
    return undefined;
  },
};

const proxied: FuzzTarget = {
  name: "proxy-header",
  seeds: [
    Buffer.from("PROXY TCP4 192.0.2.1 198.51.100.1 56324 4145\r\n"),
    Buffer.from("PROXY TCP6 2001:db8::1 2001:db8::2 56324 4145\r\n"),
    Buffer.from("PROXY UNKNOWN\r\n"),
    Buffer.from("0d0a0d0a000d0a515549540a2111000cc0000201c6336401dc041031", "hex"),
    Buffer.from("0d0a0d0a000d0a515549540a20000000", "hex"),
  ],
  dictionary: [Buffer.from("PROXY "), Buffer.from("TCP4 "), Buffer.from("\r\n"), Buffer.of(0x21, 0x21, 0, 36)],
  covers: "src/proxy/wire/proxy-protocol/",
  run(pieces) {
    let bytes: Buffer = Buffer.alloc(0);
    for (const piece of pieces) {
      bytes = Buffer.concat([bytes, piece]);
      const decoded = decodeProxyHeader(bytes);
      if (decoded.kind === "more") {
        if (decoded.atLeast <= bytes.length || decoded.atLeast > MAX_PROXY_HEADER_BYTES)
          throw new Error("asks for nothing");
        continue;
      }
      if (decoded.kind === "no") break;
      const { ip, port } = decoded.value.source ?? { ip: "::", port: 0 };
      if (canonicalIp(ip) !== ip || !Number.isInteger(port) || port < 0 || port > 65_535)
        throw new Error(`source ${JSON.stringify(decoded.value.source)}`);
      break;
    }
    return undefined;
  },
};

export const FIRST_BYTES_TARGETS: readonly FuzzTarget[] = [hello, header, detection, proxied];
