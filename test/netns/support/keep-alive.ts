/**
 * A program that keeps its one connection: `keep-alive.ts HOST PORT` asks for each path that it is told, a line each,
 * and prints `STATUS PORT`, the port being its own end's.
 *
 * With three more arguments, a directory (`tls.key`, `tls.crt`), a server name and a port, it is a meshed workload of
 * its own kind: it dials the proxy at HOST:PORT and names that port in the transport header.
 */
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";
import { connect as connectTls } from "node:tls";
import { encodeTransportHeader } from "../../../src/proxy/wire/transport-header/index.ts";

const [host = "", port = "", directory, servername = "", target = ""] = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);

class MeshedAgent extends Agent {
  override createConnection() {
    const socket = connectTls({
      host,
      port: Number(port),
      servername,
      key: readFileSync(`${directory}/tls.key`),
      cert: readFileSync(`${directory}/tls.crt`),
      ALPNProtocols: ["transport.l5d.io/v1"],
      // Who the server is, others test: here only the client's name matters.
      rejectUnauthorized: false,
    });
    socket.write(encodeTransportHeader({ port: Number(target), name: undefined, protocol: "http1" }));
    return socket;
  }
}

const options = { keepAlive: true, maxSockets: 1 };
const agent = directory === undefined ? new Agent(options) : new MeshedAgent(options);

createInterface({ input: process.stdin }).on("line", (path) => {
  const asked = request({ agent, host, port, path }, (answer) => {
    const { localPort } = answer.socket;
    answer.resume().on("end", () => say(`${answer.statusCode} ${localPort}`));
  });
  asked.on("error", (error: NodeJS.ErrnoException) => say(error.code ?? error.message));
  asked.end();
});
say("listening");
