/**
 * Sends Enroll requests as fast as it is told, from one source address of loopback, on connections that it makes again
 * when they are closed. Prints what came of them as JSON.
 *
 *   node enroll-flood.ts '{"port": 4145, "source": "127.0.0.2", "perSecond": 10000, "seconds": 5, "serverName": "…"}'
 */
import http2 from "node:http2";
import tls from "node:tls";
import { create, toBinary } from "@bufbuild/protobuf";
import { EnrollRequestSchema } from "../../src/proto/gen/meshagent/enroll/v1/enroll_pb.ts";

interface Orders {
  readonly port: number;
  readonly source: string;
  readonly perSecond: number;
  readonly seconds: number;
  readonly serverName: string;
}

const { port, source, perSecond, seconds, serverName } = JSON.parse(process.argv[2] ?? "") as Orders;
const CONNECTIONS = 16;

const message = toBinary(
  EnrollRequestSchema,
  create(EnrollRequestSchema, {
    version: "0.1.0",
    invitationId: "0123456789",
    secret: Buffer.alloc(32),
    csr: Buffer.alloc(200, 0x5a),
    host: { machine: "ab".repeat(32), hostname: "flood", wallMs: BigInt(Date.now()) },
  }),
);
const frame = Buffer.alloc(5 + message.length);
frame.writeUInt32BE(message.length, 1);
frame.set(message, 5);

const said = { attempts: 0, answered: 0, turnedAway: 0, connections: 0 };
const sessions: (http2.ClientHttp2Session | undefined)[] = Array(CONNECTIONS).fill(undefined);

function connect(slot: number): void {
  said.connections++;
  // `net`'s option, which the types of `tls` leave out.
  const from: tls.ConnectionOptions & { readonly localAddress: string } = {
    host: "127.0.0.1",
    port,
    localAddress: source,
    servername: serverName,
    rejectUnauthorized: false,
    ALPNProtocols: ["h2"],
  };
  const socket = tls.connect(from);
  const again = () => {
    sessions[slot] = undefined;
  };
  socket.on("error", again);
  socket.on("close", again);
  const session = http2.connect(`https://127.0.0.1:${port}`, { createConnection: () => socket });
  session.on("error", again);
  session.on("goaway", again);
  session.on("close", again);
  sessions[slot] = session;
}

const began = performance.now();
const timer = setInterval(() => {
  const elapsed = performance.now() - began;
  if (elapsed > seconds * 1000) {
    clearInterval(timer);
    console.log(JSON.stringify({ ...said, perSecond: Math.round((said.attempts * 1000) / elapsed) }));
    process.exit(0);
  }
  const due = (elapsed * perSecond) / 1000;
  for (let slot = said.attempts % CONNECTIONS; said.attempts < due; slot = (slot + 1) % CONNECTIONS) {
    said.attempts++;
    const session = sessions[slot];
    if (session === undefined || session.destroyed || session.closed) {
      // Knocking again is an attempt too.
      said.turnedAway++;
      connect(slot);
      continue;
    }
    const stream = session.request({
      ":method": "POST",
      ":path": "/meshagent.enroll.v1.Enroller/Enroll",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {});
    stream.on("response", () => said.answered++);
    stream.resume();
    stream.end(frame);
  }
}, 2);
