/**
 * What the first bytes of a connection and gRPC's prefixes cost: `node --expose-gc bench/micro/first-bytes.ts`.
 */
import { connect, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { EnvelopeReader, encodeEnvelope } from "../../src/proxy/wire/grpc/index.ts";
import { detectHttp } from "../../src/proxy/wire/http1/index.ts";
import { decodeProxyHeader } from "../../src/proxy/wire/proxy-protocol/index.ts";
import { decodeClientHello } from "../../src/proxy/wire/tls/index.ts";
import { decodeTransportHeader, encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { measure } from "./measure.ts";

/** What Node says first, with the hybrid group that our peers prefer. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.once("data", (chunk: Buffer) => {
        socket.destroy();
        server.close();
        resolve(chunk);
      });
    });
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      const secure = connectTls({
        socket: connect(port, "127.0.0.1"),
        servername: "web.shop.serviceaccount.identity.linkerd.cluster.local",
        ALPNProtocols: ["transport.l5d.io/v1"],
        ecdhCurve: "X25519MLKEM768:X25519",
      });
      secure.on("error", () => {});
    });
  });
}

const hello = await clientHello();
const header = encodeTransportHeader({ port: 8080, name: "web.shop.svc.cluster.local", protocol: "http2" });
const proxied = Buffer.from("PROXY TCP4 192.0.2.1 198.51.100.1 56324 4145\r\n");
const request = Buffer.from("GET /items/1?session=2 HTTP/1.1\r\nHost: a\r\n\r\n");
const messages = Buffer.concat(Array.from({ length: 100 }, () => encodeEnvelope(Buffer.alloc(100))));
const reader = new EnvelopeReader();

console.log(`Node ${process.version}, ${process.arch}; per decision or message`);
measure(`ClientHello of ${hello.length} B`, 1, () => decodeClientHello(hello));
measure(`transport header of ${header.length} B`, 1, () => decodeTransportHeader(header));
measure("PROXY header, version 1", 1, () => decodeProxyHeader(proxied));
measure("detect HTTP/1", 1, () => detectHttp(request));
measure("gRPC message of 100 B, counted", 100, () => reader.receive(messages));
