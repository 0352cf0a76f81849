/** What a port's policy makes of a connection: every protocol with plaintext, mesh TLS, and TLS for somebody else. */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import type { InboundPolicy } from "../../../src/proxy/policy/index.ts";
import { CLIENT_NAME } from "../../support/hops.ts";
import { detect, http, InboundSite, inboundPolicy, inTime, routeTo } from "../../support/inbound-site.ts";
import { speak } from "../../support/meshed-client.ts";

const site = new InboundSite();
afterEach(() => site.close());

const REQUEST = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const BYTES = "\0\x01\x02 no HTTP, and longer than a first line needs\n";

/** An application that says what reached it first, whatever it is: `client` where a proxy says who calls. */
async function start(protocol: InboundPolicy["protocol"]) {
  const first: string[] = [];
  const appPort = await site.tcp((socket) => {
    socket.once("data", (data: Buffer) => {
      first.push(data.toString("latin1"));
      if (data.toString("latin1").startsWith("GET")) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
      else socket.end("bytes");
    });
  });
  return { first, ...(await site.hops({ appPort, inboundPolicy: inboundPolicy(protocol) })) };
}

const closed = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

/** In plaintext, to the end. */
async function tell(port: number, text: string | Buffer): Promise<string> {
  const socket: Socket = connect(port, "127.0.0.1");
  let heard = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    heard += chunk.toString("latin1");
  });
  socket.write(text);
  await closed(socket);
  return heard;
}

/** The first flight of a TLS client that asks for `name`. */
async function hello(port: number, name: string): Promise<void> {
  const socket = connectTls({ host: "127.0.0.1", port, servername: name, rejectUnauthorized: false });
  socket.on("error", () => {});
  await closed(socket);
}

const kinds = {
  opaque: { kind: "opaque" },
  tls: { kind: "tls" },
  detect: detect(10_000, routeTo("")),
  http1: http("http1", routeTo("")),
  http2: http("http2", routeTo("")),
  grpc: http("grpc"),
} as const satisfies Record<string, InboundPolicy["protocol"]>;
type Kind = keyof typeof kinds;

describe("in plaintext", () => {
  test.each<[Kind, string, string, RegExp]>([
    ["opaque", "a request", REQUEST, /^GET \/a HTTP\/1\.1\r\nhost: a\r\nconnection: close\r\n\r\n$/],
    ["opaque", "bytes", BYTES, /no HTTP/],
    ["tls", "a request", REQUEST, /^GET .*connection: close\r\n\r\n$/s],
    ["detect", "bytes", BYTES, /no HTTP/],
    ["detect", "a request", REQUEST, /^GET .*host: a\r\n/s],
    ["http1", "a request", REQUEST, /^GET .*host: a\r\n/s],
  ])("%s carries %s", async (kind, _, text, reached) => {
    const { first, intercepted } = await start(kinds[kind]);
    await tell(intercepted, text);
    expect(first).toHaveLength(1);
    expect(first[0]).toMatch(reached);
  });

  test.each<[Kind, string, string, RegExp]>([
    // HTTP/1 is understood without looking first: what is none is a bad request.
    ["http1", "bytes", BYTES, /^HTTP\/1\.1 400 /],
    ["http1", "HTTP/2", PREFACE, /^HTTP\/1\.1 (?:400|505) /],
    // GOAWAY: seven bytes of it say which frame it is.
    ["http2", "HTTP/1", REQUEST, /\x07\0\0\0\0\0/],
    ["grpc", "bytes", BYTES, /\x07\0\0\0\0\0/],
  ])("%s refuses %s", async (kind, _, text, heard) => {
    const { first, intercepted } = await start(kinds[kind]);
    expect(await tell(intercepted, text)).toMatch(heard);
    expect(first).toEqual([]);
  });

  test("a client that says nothing is cut after the detection's time", async () => {
    const { first, hops, intercepted } = await start(kinds.detect);
    expect(await inTime(hops, tell(intercepted, ""))).toBe("");
    expect(first).toEqual([]);
    expect(hops.server.metrics.format()).toMatch(/inbound_tcp_errors_total\{error="tls detection timeout",.*\} 1\n/);
  });

  // Each of them would hold a descriptor as long as the detection's time, and cost its client one packet.
  test.each<[Kind, string]>([
    ["detect", ""],
    ["detect", "\x16\x03"],
    ["detect", "G"],
    ["http1", ""],
    ["http1", "\x16\x03"],
    ["http2", ""],
    ["http2", "\x16\x03"],
    ["grpc", ""],
  ])(
    "%s lets a client go that half-closes after %j, at once",
    async (kind, text) => {
      const { intercepted } = await start(kinds[kind]);
      const socket = connect({ port: intercepted, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => {});
      socket.resume();
      socket.end(text, "latin1");
      await new Promise((resolve) => socket.once("end", resolve).once("close", resolve));
      socket.destroy();
    },
    5_000,
  );

  test("a client that says nothing on an opaque port hears the application first", async () => {
    const appPort = await site.tcp((socket) => socket.end("220 hello\r\n"));
    const { intercepted } = await site.hops({ appPort, inboundPolicy: inboundPolicy(kinds.opaque) });
    expect(await tell(intercepted, "")).toBe("220 hello\r\n");
  });
});

describe("in mesh TLS on the application's own port", () => {
  test.each<[Kind, string, string, RegExp]>([
    ["tls", "a request, deciphered", REQUEST, /^GET .*connection: close\r\n\r\n$/s],
    ["detect", "bytes, deciphered", BYTES, /no HTTP/],
    ["detect", "a request", REQUEST, new RegExp(`^GET .*l5d-client-id: ${CLIENT_NAME}`, "s")],
    ["http1", "a request", REQUEST, new RegExp(`^GET .*l5d-client-id: ${CLIENT_NAME}`, "s")],
  ])("%s carries %s", async (kind, _, text, reached) => {
    const { first, hops, intercepted } = await start(kinds[kind]);
    await speak(hops, "none", text, { port: intercepted });
    expect(first).toHaveLength(1);
    expect(first[0]).toMatch(reached);
  });

  test.each<[Kind, string, string, RegExp]>([
    // Looked at, since a peer may carry HTTP/1 in HTTP/2; bytes have no permission on such a port.
    ["http1", "bytes", BYTES, /^$/],
    ["http2", "HTTP/1", REQUEST, /\x07\0\0\0\0\0/],
    ["grpc", "HTTP/1", REQUEST, /\x07\0\0\0\0\0/],
  ])("%s refuses %s", async (kind, _, text, heard) => {
    const { first, hops, intercepted } = await start(kinds[kind]);
    expect(await speak(hops, "none", text, { port: intercepted })).toMatch(heard);
    expect(first).toEqual([]);
  });

  test("an opaque port's TLS is the application's own: it arrives as it is", async () => {
    const { first, hops, intercepted } = await start(kinds.opaque);
    await speak(hops, "none", REQUEST, { port: intercepted });
    expect(first[0]?.charCodeAt(0)).toBe(0x16);
  });

  test("a client that says nothing hears the application once detection has given up", async () => {
    const appPort = await site.tcp((socket) => socket.end("220 hello\r\n"));
    const { hops, intercepted } = await site.hops({ appPort, inboundPolicy: inboundPolicy(kinds.detect) });
    expect(await inTime(hops, speak(hops, "none", "", { port: intercepted }))).toBe("220 hello\r\n");
  });

  test("a client without a certificate is meshed, and nobody", async () => {
    const { first, hops, intercepted } = await start(kinds.detect);
    await speak(hops, "none", REQUEST, { port: intercepted, tls: { key: undefined, cert: undefined } });
    expect(first[0]).toMatch(/^GET /);
    expect(first[0]).not.toContain("l5d-client-id");
  });
});

describe("in TLS for somebody else", () => {
  test.each<Kind>(["opaque", "tls", "detect"])("%s passes it on untouched", async (kind) => {
    const { first, intercepted } = await start(kinds[kind]);
    await hello(intercepted, "elsewhere.example");
    expect(first[0]?.charCodeAt(0)).toBe(0x16);
    expect(first[0]).toContain("elsewhere.example");
  });

  test.each<Kind>(["http1", "http2", "grpc"])("%s has no use for it", async (kind) => {
    const { first, intercepted } = await start(kinds[kind]);
    await hello(intercepted, "elsewhere.example");
    expect(first).toEqual([]);
  });

  test("it is nobody to a policy that wants mesh TLS", async () => {
    const appPort = await site.tcp((socket) => socket.end("reached"));
    const meshed = {
      ...(inboundPolicy(kinds.tls).authorizations[0] as NonNullable<InboundPolicy["authorizations"][0]>),
    };
    const policy = inboundPolicy(kinds.tls, [{ ...meshed, authentication: { kind: "mesh-tls" } }]);
    const { hops, intercepted } = await site.hops({ appPort, inboundPolicy: policy });
    await hello(intercepted, "elsewhere.example");
    expect(hops.server.metrics.format()).toMatch(
      /inbound_tcp_authz_deny_total\{.*tls="opaque",sni="elsewhere.example".*\} 1\n/,
    );
  });
});

test("detection of one connection holds up no other", async () => {
  const { first, intercepted } = await start(detect(60_000, routeTo("")));
  const silent = connect(intercepted, "127.0.0.1");
  silent.on("error", () => {});
  silent.write("G");
  await tell(intercepted, REQUEST);
  expect(first).toHaveLength(1);
  silent.destroy();
});
