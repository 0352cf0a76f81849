/** Port 4143: mesh TLS, a header, then the stream. What is wrong with the header closes the connection without a word. */
import { afterEach, describe, expect, test } from "vitest";
import { encodeTransportHeader } from "../../../src/proxy/wire/transport-header/index.ts";
import { CLIENT_NAME } from "../../support/hops.ts";
import { detect, http, InboundSite, inboundPolicy, inTime, routeTo } from "../../support/inbound-site.ts";
import { speak } from "../../support/meshed-client.ts";

const site = new InboundSite();
afterEach(() => site.close());

const GET = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const open = detect(10_000, routeTo(""));

async function webSite(protocol: ReturnType<typeof detect> | ReturnType<typeof http> = open) {
  const reached: string[] = [];
  const appPort = await site.http((request, response) => {
    reached.push(`${request.headers.host} ${request.headers["l5d-client-id"]}`);
    response.end("the application");
  });
  return { appPort, reached, ...(await site.hops({ appPort, inboundPolicy: inboundPolicy(protocol) })) };
}

describe("a header", () => {
  test("names HTTP/1: the stream behind it is that, in the same write", async () => {
    const { hops, appPort, reached } = await webSite();
    expect(await speak(hops, { port: appPort, protocol: "http1" }, GET)).toMatch(/^HTTP\/1\.1 200 .*the application$/s);
    expect(reached).toEqual([`a ${CLIENT_NAME}`]);
  });

  test("names no protocol: bytes, also where they look like HTTP and the port's policy would detect it", async () => {
    const heard: string[] = [];
    const appPort = await site.tcp((socket) => {
      socket.on("data", (data) => {
        heard.push(String(data));
        socket.end("bytes");
      });
    });
    const { hops } = await site.hops({ appPort, inboundPolicy: inboundPolicy(open) });
    expect(await speak(hops, { port: appPort, protocol: undefined }, GET, { end: true })).toBe("bytes");
    expect(heard.join("")).toBe(GET);
  });

  test("names no protocol, and the port speaks HTTP: closed, for there is nobody who could permit bytes", async () => {
    const { hops, appPort, reached } = await webSite(http("http1", routeTo("")));
    expect(await speak(hops, { port: appPort, protocol: undefined }, GET)).toBe("");
    expect(reached).toEqual([]);
  });

  test.each(["opaque", "tls"] as const)("names HTTP, and the port is %s: 404 for every request", async (kind) => {
    const reached: string[] = [];
    const appPort = await site.http((_, response) => response.end(reached.push("")));
    const { hops } = await site.hops({ appPort, inboundPolicy: inboundPolicy({ kind }) });
    const two = GET.replace("connection: close\r\n", "") + GET;
    const heard = await speak(hops, { port: appPort, protocol: "http1" }, two);
    expect(heard.match(/HTTP\/1\.1 404 /g)).toHaveLength(2);
    expect(reached).toEqual([]);
  });

  const length = (n: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(n);
    return bytes;
  };
  const preface = Buffer.from("transport.l5d.io/v1\r\n\r\n");
  const wrong: [string, Buffer][] = [
    ["is another", Buffer.from("transport.l5d.io/v2\r\n\r\n")],
    ["is longer than 64 KiB", Buffer.concat([preface, length(65_537)])],
    ["is no message", Buffer.concat([preface, length(2), Buffer.from([0xff, 0xff])])],
    ["names port 0", Buffer.concat([preface, length(0)])],
    ["names a port above 65,535", Buffer.concat([preface, length(4), Buffer.from([0x08, 0x80, 0x80, 0x04])])],
    ["names a name that is none", encodeTransportHeader({ port: 80, name: "a b", protocol: undefined })],
    ["asks for a gateway", encodeTransportHeader({ port: 80, name: "a.b.svc.cluster.local", protocol: "http1" })],
  ];
  test.each(wrong)("that %s closes the connection without a word", async (_, bytes) => {
    const { hops, reached } = await webSite();
    expect(await speak(hops, bytes, GET)).toBe("");
    expect(reached).toEqual([]);
  });

  test("that ends early closes the connection without a word", async () => {
    const { hops } = await webSite();
    expect(await speak(hops, Buffer.concat([preface, length(100)]), "", { end: true })).toBe("");
  });

  test("that does not come is waited for no longer than detection may take", async () => {
    const { hops } = await webSite();
    expect(await inTime(hops, speak(hops, Buffer.alloc(0), ""))).toBe("");
  });

  test("that names our own port closes the connection: it would be ours again", async () => {
    const { hops } = await webSite();
    expect(await speak(hops, { port: hops.directPort, protocol: "http1" }, GET)).toBe("");
    expect(hops.server.metrics.format()).toMatch(/inbound_tcp_errors_total\{error="[^"]*",.*\} 1\n/);
  });
});

describe("HTTP/1 without a Host", () => {
  test("has no authority on the direct road: 500, and the connection ends", async () => {
    const { hops, appPort, reached } = await webSite();
    const heard = await speak(hops, { port: appPort, protocol: "http1" }, "GET /a HTTP/1.0\r\n\r\n");
    expect(heard).toMatch(/^HTTP\/1\.[01] 500 /);
    expect(heard).toContain("l5d-proxy-error: unexpected error");
    expect(reached).toEqual([]);
  });

  test("has the original destination's on an intercepted port, and reaches the application without one", async () => {
    const { hops, intercepted, reached } = await webSite();
    const heard = await speak(hops, "none", "GET /a HTTP/1.0\r\n\r\n", { port: intercepted });
    expect(heard).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(reached).toEqual([`undefined ${CLIENT_NAME}`]);
  });
});
