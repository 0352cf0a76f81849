import type { IncomingMessage, ServerResponse } from "node:http";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { type BothApp, bothApp } from "../support/both-app.ts";
import { CLIENT_NAME, Hops, identityFrom, SERVER_NAME } from "../support/hops.ts";
import { type Fields, frame, GET } from "../support/http2.ts";
import { encodings, type MalformedRequest, malformedRequests, requestFrames } from "../support/malformed-http2.ts";
import { RawHttp2 } from "../support/raw-http2.ts";
import { until } from "../support/until.ts";

/** Requests as the application understood them. */
let seen: { readonly version: string; readonly url: string; readonly headers: string }[] = [];
let finished = 0;
let app: BothApp;
let hops: Hops;
let intercepted = 0;

function answer(req: IncomingMessage, res: ServerResponse): void {
  seen.push({ version: req.httpVersion, url: req.url ?? "", headers: JSON.stringify(req.rawHeaders ?? req.headers) });
  req.on("error", () => {});
  res.on("error", () => {});
  req.resume();
  req.on("end", () => {
    // A request that was reset ends as well.
    if (req.aborted) return;
    finished++;
    res.end("hi");
  });
}

beforeAll(async () => {
  app = await bothApp(answer, { streamResetBurst: 1_000_000, streamResetRate: 1_000_000 });
  hops = await Hops.start({
    appPort: app.port,
    inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
  });
  intercepted = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: app.port });
});
afterAll(() => {
  hops.close();
  app.close();
});

/** A mesh peer that carries HTTP/1 in HTTP/2: what it says is written as HTTP/1 to the application. */
async function meshPeer(): Promise<RawHttp2> {
  const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
  const socket = connectTls({
    host: "127.0.0.1",
    port: hops.directPort,
    servername: SERVER_NAME,
    ca: hops.authority.certificatePem,
    checkServerIdentity: () => undefined,
    key: keyPem,
    cert: certificatePem,
    ALPNProtocols: ["transport.l5d.io/v1"],
  });
  await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  socket.write(encodeTransportHeader({ port: app.port, name: undefined, protocol: "http2" }));
  return RawHttp2.over(socket);
}

const roads: [string, () => Promise<RawHttp2>, Fields, string][] = [
  ["to an HTTP/2 application, from a stranger", () => RawHttp2.open(intercepted), [], "2.0"],
  ["to an HTTP/2 application, through both hops", () => RawHttp2.open(hops.port), [], "2.0"],
  ["to an HTTP/1 application, carried by a mesh peer", meshPeer, [["l5d-orig-proto", "HTTP/1.1"]], "1.1"],
];

/** Carried HTTP/1 keeps a Host that differs, and one authority is used for everything (D40); Node refuses D52's target. */
function expected(vector: MalformedRequest, road: Fields): string {
  return ["D40", "D52"].includes(vector.id) && road.length > 0 ? "N" : vector.expected;
}

describe.each(roads)("%s", (_name, open, more, version) => {
  test.each(malformedRequests)("$id", async (vector) => {
    for (const [way, encode] of encodings) {
      seen = [];
      finished = 0;
      const peer = await open();
      peer.write(...requestFrames(vector, 1, encode, [...vector.fields, ...more]));
      await until(() => peer.resets.has(1) || peer.goaway !== undefined || peer.ended.has(1), `${vector.id} is judged`);
      // What comes behind it is a request of its own, unless the connection was the price.
      if (peer.goaway === undefined) {
        peer.write(frame.headers(3, [...GET, ...more]));
        await until(() => peer.ended.has(3) || peer.goaway !== undefined, "the next request is answered");
      }
      const taken = finished - (peer.ended.has(3) ? 1 : 0);
      if (expected(vector, more) === "R") expect(taken, way).toBe(0);
      if (expected(vector, more) === "F") expect(taken, way).toBe(1);
      expect(seen.length, way).toBeLessThanOrEqual(2);
      for (const request of seen) {
        expect(request.version).toBe(version);
        expect(request.url).not.toContain("smuggled");
        expect(request.url).not.toMatch(/[\r\n\0 ]/);
        expect(request.headers).not.toMatch(/smuggled|[\r\n\0]/);
      }
      peer.close();
    }
  });
});
