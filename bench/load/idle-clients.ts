/**
 * Opens connections, uses each once, and keeps them idle until it is ended. Prints `held` and their number when all are
 * there: `{"port":…,"count":…}` for HTTP/1 in clear text, with the material and `"mesh":true` for mesh peers.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { connect as connectTls, createSecureContext } from "node:tls";
import { encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";

interface Options {
  readonly port: number;
  readonly count: number;
  readonly mesh: boolean;
  readonly appPort: number;
  readonly identity: string;
  readonly keyFile: string;
  readonly certificateFile: string;
  readonly anchorsFile: string;
}

// As many handshakes at once as do not fill a backlog.
const AT_ONCE = 64;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0", "latin1");

const options = JSON.parse(process.argv[2] ?? "{}") as Options;
const secureContext = options.mesh
  ? createSecureContext({
      key: readFileSync(options.keyFile),
      cert: readFileSync(options.certificateFile),
      ca: readFileSync(options.anchorsFile),
      minVersion: "TLSv1.3",
    })
  : undefined;

function open(): Socket {
  if (secureContext === undefined) {
    const socket = connect(options.port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    return socket;
  }
  const socket = connectTls({
    port: options.port,
    host: "127.0.0.1",
    servername: options.identity,
    ALPNProtocols: ["transport.l5d.io/v1"],
    secureContext,
  });
  socket.write(encodeTransportHeader({ port: options.appPort, name: undefined, protocol: "http2" }));
  socket.write(PREFACE);
  return socket;
}

let held = 0;
let left = options.count;
const kept: Socket[] = [];

/** Resolves when the hop has said something: the connection is in use then, not only accepted. */
function used(): Promise<void> {
  return new Promise((resolve) => {
    const socket = open();
    kept.push(socket);
    socket.once("data", () => {
      held++;
      resolve();
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      held--;
      resolve();
    });
  });
}

await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (left-- > 0) await used();
  }),
);
console.log(`held ${held}`);
process.on("SIGTERM", () => process.exit(0));
setInterval(() => {}, 60_000);
