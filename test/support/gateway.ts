import { createServer as createHttp2, type ServerHttp2Stream } from "node:http2";
import { createServer as createTls, type Server, type TLSSocket } from "node:tls";
import type { Authority } from "../../src/lab/pki.ts";
import { decodeTransportHeader, TRANSPORT_ALPN } from "../../src/proxy/wire/transport-header/index.ts";

/** The identity of a cluster's gateway. */
export const GATEWAY = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";

/** Another cluster's gateway: mutual TLS, then a header that names the Service behind it, then HTTP/2. */
export class Gateway {
  readonly server: Server;
  /** What the header and the head said of each connection's last request. */
  readonly requests: Record<string, unknown>[] = [];

  private constructor(server: Server, requests: Record<string, unknown>[]) {
    this.server = server;
    this.requests = requests;
  }

  /** @param body - What the Service behind it answers. */
  static async make(authority: Authority, body: string): Promise<Gateway> {
    const leaf = await authority.issue({ dns: [GATEWAY] });
    const requests: Record<string, unknown>[] = [];
    const inner = createHttp2();
    inner.on("stream", (stream: ServerHttp2Stream, headers) => {
      const { host, "l5d-dst-canonical": canonical } = headers;
      Object.assign(requests.at(-1) ?? {}, { authority: headers[":authority"], host, canonical });
      stream.respond({ ":status": 200 });
      stream.end(body);
    });
    const server = createTls(
      {
        key: leaf.keyPem,
        cert: leaf.certificatePem,
        ca: authority.certificatePem,
        requestCert: true,
        ALPNProtocols: [TRANSPORT_ALPN],
      },
      (socket: TLSSocket) => {
        socket.on("error", () => {});
        socket.once("data", (chunk: Buffer) => {
          const header = decodeTransportHeader(chunk);
          if (header.kind !== "done") return void socket.destroy();
          const client = socket.getPeerX509Certificate()?.subjectAltName;
          requests.push({ ...header.value, alpn: socket.alpnProtocol, client });
          socket.pause();
          socket.unshift(chunk.subarray(header.consumed));
          inner.emit("connection", socket);
        });
      },
    );
    return new Gateway(server, requests);
  }
}
