/** Makes mutual TLS 1.3 handshakes one after the other on a few connections, and prints how many. */
import { readFileSync } from "node:fs";
import { connect, createSecureContext } from "node:tls";

interface Options {
  readonly port: number;
  readonly seconds: number;
  readonly concurrency: number;
  readonly identity: string;
  readonly keyFile: string;
  readonly certificateFile: string;
  readonly anchorsFile: string;
  readonly alpn: string;
  readonly groups: string;
}

export interface HandshakeResult {
  readonly handshakes: number;
  readonly failures: number;
  readonly seconds: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as Options;
const secureContext = createSecureContext({
  key: readFileSync(options.keyFile),
  cert: readFileSync(options.certificateFile),
  ca: readFileSync(options.anchorsFile),
  minVersion: "TLSv1.3",
  ecdhCurve: options.groups,
});
let handshakes = 0;
let failures = 0;
const startedAt = performance.now();

/** One handshake without resumption; ends when the server has closed too, so that it has seen our certificate. */
function handshake(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({
      port: options.port,
      host: "127.0.0.1",
      servername: options.identity,
      ALPNProtocols: [options.alpn],
      secureContext,
    });
    let secure = false;
    socket.on("secureConnect", () => {
      secure = true;
      socket.end();
    });
    socket.resume().on("error", () => {});
    socket.on("close", () => {
      if (secure) handshakes++;
      else failures++;
      resolve();
    });
  });
}

await Promise.all(
  Array.from({ length: options.concurrency }, async () => {
    while (performance.now() - startedAt < options.seconds * 1000) await handshake();
  }),
);
const result: HandshakeResult = { handshakes, failures, seconds: (performance.now() - startedAt) / 1000 };
console.log(JSON.stringify(result));
