import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { PREFACE } from "../../src/proxy/wire/http2/index.ts";
import { Hops, identityFrom, SERVER_NAME, SERVER_URI } from "../support/hops.ts";
import { END_STREAM, type Fields, frame } from "../support/http2.ts";
import { BASE, encodings, headerFrames, type MalformedMessage, malformedRequests } from "../support/malformed-http2.ts";
import { readResponse } from "../support/strict-response.ts";
import { until } from "../support/until.ts";

/*
 * The fields of malformed requests, and more, said by a server: an application that speaks HTTP/2 to a client that does,
 * and a mesh peer that answers a request which its client made in HTTP/1.
 */

const STATUS: Fields = [[":status", "200"]];
const plain = (id: string, expected: string, fields: Fields, body = ""): MalformedMessage => ({
  id,
  expected,
  fields,
  trailers: undefined,
  trailersEnd: true,
  body,
});

const responses: readonly MalformedMessage[] = [
  plain("as it should be", "F", [...STATUS, ["x", "1"]], "hello"),
  plain("no :status", "R", [["x", "1"]]),
  plain("two :status", "R", [...STATUS, ...STATUS]),
  plain(":status after a field", "R", [["x", "1"], ...STATUS]),
  plain(":status of letters", "R", [[":status", "2xx"]]),
  plain(":status of two digits", "R", [[":status", "99"]]),
  plain(":status of four digits", "R", [[":status", "2000"]]),
  plain(":status with CRLF", "R", [[":status", "200 OK\r\nx: y"]]),
  plain(":status 101", "R", [[":status", "101"]]),
  plain(":path in a response", "R", [...STATUS, [":path", "/"]]),
  plain(":unknown in a response", "R", [...STATUS, [":unknown", "1"]]),
  // Those about what only a request has stay away: pseudo-headers, Host, TE.
  ...malformedRequests
    .filter(({ id, fields }) => {
      const own = fields.slice(4);
      const isBase = BASE.every(([name, value], i) => fields[i]?.[0] === name && fields[i]?.[1] === value);
      return id !== "D29" && isBase && own.every(([name]) => !name.startsWith(":") && name !== "host");
    })
    .map((vector) => ({ ...vector, fields: [...STATUS, ...vector.fields.slice(4)] })),
];

/** What the server says to the next request; anything else is answered as it should be. */
let next: MalformedMessage | undefined;
let way = 0;

/** Speaks HTTP/2 by hand: answers every HEADERS, whatever it asks. */
function serve(socket: Socket): void {
  socket.on("error", () => {});
  socket.write(frame.settings());
  let bytes: Buffer = Buffer.alloc(0);
  let begun = false;
  socket.on("data", (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    if (!begun) {
      const at = bytes.indexOf(PREFACE);
      if (at < 0 || bytes.length < at + PREFACE.length) return;
      // A mesh peer says a header first.
      begun = true;
      bytes = bytes.subarray(at + PREFACE.length);
    }
    while (bytes.length >= 9) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) return;
      const [type, flags, id] = [bytes[3], bytes[4] as number, bytes.readUInt32BE(5)];
      if (type === 4 && (flags & 1) === 0) socket.write(frame.settingsAck());
      if (type === 6 && (flags & 1) === 0)
        socket.write(Buffer.concat([Buffer.of(0, 0, 8, 6, 1, 0, 0, 0, 0), bytes.subarray(9, 17)]));
      if (type === 1) answer(socket, id);
      bytes = bytes.subarray(9 + length);
    }
  });
}

function answer(socket: Socket, id: number): void {
  const said = next ?? plain("after", "F", [...STATUS, ["content-length", "5"]], "after");
  next = undefined;
  const encode = (encodings[way] as (typeof encodings)[number])[1];
  const { body, trailers } = said;
  const frames = headerFrames(id, encode(said.fields), body === "" && trailers === undefined);
  if (body !== "" || trailers !== undefined) frames.push(frame.data(id, body, trailers === undefined ? END_STREAM : 0));
  if (trailers !== undefined) frames.push(...headerFrames(id, encode(trailers), said.trailersEnd));
  socket.write(Buffer.concat(frames));
}

let app: Server;
let hops: Hops;
let straight = 0;
let impostor: ReturnType<typeof createTls>;
let carried: Hops;
beforeAll(async () => {
  app = createServer(serve);
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  const appPort = (app.address() as AddressInfo).port;
  const inboundPolicy = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 5_000, clusterNetworks: [] });
  hops = await Hops.start({ appPort, inboundPolicy, detectTimeoutMs: 5_000 });
  straight = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort });
  // In the place of the inbound hop, with its identity.
  impostor = createTls({ ALPNProtocols: ["transport.l5d.io/v1"] }, serve);
  impostor.on("tlsClientError", () => {});
  impostor.listen(0, "127.0.0.1");
  await once(impostor, "listening");
  carried = await Hops.start({
    appPort,
    inboundPolicy,
    detectTimeoutMs: 5_000,
    meshPort: (impostor.address() as AddressInfo).port,
  });
  const { keyPem, certificatePem } = await identityFrom(carried.authority, SERVER_NAME, SERVER_URI);
  impostor.setSecureContext({ key: keyPem, cert: certificatePem });
});
afterAll(() => {
  hops.close();
  carried.close();
  app.close();
  impostor.close();
});

interface Heard {
  readonly status: number;
  /** To its proper end. */
  readonly complete: boolean;
  readonly content: string;
}

/** One request over HTTP/2. */
function overHttp2(port: number): Promise<Heard> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const stream = session.request({ ":path": "/" });
  let status = 0;
  let content = "";
  let ended = false;
  stream.on("response", (headers) => {
    status = Number(headers[":status"]);
    expect(JSON.stringify(headers)).not.toMatch(/smuggled|\\r|\\n|\\u0000|_encoding|_length/);
  });
  stream.on("trailers", (headers) => expect(JSON.stringify(headers)).not.toMatch(/smuggled|\\r|\\n/));
  stream.on("data", (chunk: Buffer) => {
    content += chunk.toString("latin1");
  });
  stream.on("end", () => {
    ended = true;
  });
  stream.on("error", () => {});
  return new Promise((resolve) =>
    stream.on("close", () => {
      session.destroy();
      resolve({ status, complete: ended && stream.rstCode === 0, content });
    }),
  );
}

/** One request over HTTP/1. */
async function overHttp1(port: number): Promise<Heard> {
  const socket = connect(port, "127.0.0.1");
  let heard = "";
  let over = false;
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    over = true;
  });
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => over || readResponse(heard)?.end === "framed", "it is answered");
  socket.destroy();
  expect(heard).not.toContain("smuggled");
  const response = readResponse(heard);
  return {
    status: response?.status ?? 0,
    complete: response?.end === "framed",
    content: response?.content ?? "",
  };
}

const roads: [string, () => Promise<Heard>][] = [
  ["an application to an HTTP/2 client, one hop", () => overHttp2(straight)],
  ["an application to an HTTP/2 client, both hops", () => overHttp2(hops.port)],
  ["a mesh peer to an HTTP/1 client", () => overHttp1(carried.port)],
];

describe.each(roads)("%s", (_road, ask) => {
  test.each(responses)("$id", async (response) => {
    for (way = 0; way < encodings.length; way++) {
      next = response;
      const heard = await ask();
      const taken = heard.complete && heard.status === 200;
      const name = encodings[way]?.[0];
      if (response.expected === "R") expect(taken, name).toBe(false);
      if (response.expected === "F") expect(taken, name).toBe(true);
      if (response.expected === "R" && heard.complete) expect([0, 502], name).toContain(heard.status);
      next = undefined;
      // Over a new connection, if that was the price; never with anything of the answer before.
      await until(async () => {
        const after = await ask();
        expect(["after", ""]).toContain(after.content);
        return after.content === "after";
      }, "the next request gets its own answer");
    }
  });
});
