import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { encodeTransportHeader, type TransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { CLIENT_NAME, type Hops, identityFrom, SERVER_NAME } from "./hops.ts";

/** What a peer says on the proxy's own port: a header, bytes in its place, or `none` on an intercepted port. */
export type Preface = Pick<TransportHeader, "port" | "protocol"> | Buffer | "none";

/**
 * Speaks to the inbound hop as a meshed peer does, by hand: TLS with an identity, the preface and `text` in one write.
 * @param end - Whether the client closes its side after `text`.
 * @returns all that came back until the connection closed.
 */
export async function speak(
  hops: Hops,
  preface: Preface,
  text: string | Buffer,
  more: {
    port?: number;
    end?: boolean;
    tls?: ConnectionOptions;
    heard?: (socket: TLSSocket, text: string) => void;
  } = {},
): Promise<string> {
  const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
  return new Promise((resolve) => {
    const socket = connect({
      host: "127.0.0.1",
      port: more.port ?? hops.directPort,
      servername: SERVER_NAME,
      ca: hops.authority.certificatePem,
      checkServerIdentity: () => undefined,
      key: keyPem,
      cert: certificatePem,
      ...(preface === "none" ? {} : { ALPNProtocols: ["transport.l5d.io/v1"] }),
      ...more.tls,
    });
    let seen = "";
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString("latin1");
      more.heard?.(socket, seen);
    });
    socket.on("close", () => resolve(seen));
    const head =
      preface === "none"
        ? Buffer.alloc(0)
        : Buffer.isBuffer(preface)
          ? preface
          : encodeTransportHeader({ ...preface, name: undefined });
    socket.write(Buffer.concat([head, Buffer.from(text)]));
    if (more.end === true) socket.end();
  });
}
