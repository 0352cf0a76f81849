import type { IncomingMessage, ServerResponse } from "node:http";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { type BothApp, bothApp } from "../support/both-app.ts";
import { CLIENT_NAME, Hops, identityFrom, SERVER_NAME } from "../support/hops.ts";
import { END_HEADERS, type Fields, frame, GET, rawFrame } from "../support/http2.ts";
import {
  asGrpc,
  type Encode,
  encodings,
  indexing,
  literals,
  type MalformedMessage,
  malformedRequests,
  references,
  requestFrames,
} from "../support/malformed-http2.ts";
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
function expected(vector: MalformedMessage, road: Fields): string {
  return ["D40", "D52"].includes(vector.id) && road.length > 0 ? "N" : vector.expected;
}

type Way = readonly [name: string, fields: Fields, encode: Encode, first?: (fields: Fields) => Buffer];

/** Every way to write a vector, as it is and as a request of gRPC. */
function ways(vector: MalformedMessage): Way[] {
  return [
    ...encodings.map(([name, encode]): Way => [name, vector.fields, encode]),
    ...encodings.map(([name, encode]): Way => [`gRPC, ${name}`, asGrpc(vector), encode]),
    // Trailers are written as literals: they are others than the entries.
    [
      "indexed",
      vector.fields,
      (fields) => [fields === vector.trailers ? literals(fields, 0x00, false) : references(fields)],
      indexing,
    ],
  ];
}

describe.each(roads)("%s", (_name, open, more, version) => {
  test.each(malformedRequests)("$id", async (vector) => {
    for (const [way, fields, encode, first] of ways(vector)) {
      seen = [];
      finished = 0;
      const peer = await open();
      const all = [...fields, ...more];
      // What the table is filled with is a request that is taken back.
      const id = first === undefined ? 1 : 3;
      if (first !== undefined) peer.write(rawFrame(1, END_HEADERS, 1, first(all)), frame.reset(1, 8));
      peer.write(...requestFrames(vector, id, encode, all));
      await until(
        () => peer.resets.has(id) || peer.goaway !== undefined || peer.ended.has(id),
        `${vector.id} is judged`,
      );
      // What comes behind it is a request of its own, unless the connection was the price.
      const next = id + 2;
      if (peer.goaway === undefined) {
        peer.write(frame.headers(next, [...GET, ...more]));
        await until(() => peer.ended.has(next) || peer.goaway !== undefined, "the next request is answered");
      }
      const taken = finished - (peer.ended.has(next) ? 1 : 0);
      if (expected(vector, more) === "R") expect(taken, way).toBe(0);
      if (expected(vector, more) === "F") expect(taken, way).toBe(1);
      expect(seen.length, way).toBeLessThanOrEqual(first === undefined ? 2 : 3);
      for (const request of seen) {
        expect(request.version).toBe(version);
        expect(request.url).not.toContain("smuggled");
        expect(request.url).not.toMatch(/[\r\n\0 ]/);
        expect(request.headers).not.toMatch(/smuggled|[\r\n\0]|_encoding|_length/);
      }
      peer.close();
    }
  });
});

/*
 * All of them at every offset are the codec's (`unit/proxy/wire/http2/malformed.test.ts`); here some of each kind, as two reads of the
 * running proxy.
 */
const SPLIT = ["D05", "D10", "D20", "D22", "D27", "D33", "D41", "D43"];

test.each(malformedRequests.filter(({ id }) => SPLIT.includes(id)))(
  "$id in two segments, at every offset",
  async (vector) => {
    const [, open, more] = roads[1] as (typeof roads)[number];
    const bytes = Buffer.concat(
      requestFrames(vector, 1, (encodings[0] as (typeof encodings)[number])[1], [...vector.fields, ...more]),
    );
    const offsets = Array.from({ length: bytes.length - 1 }, (_, i) => i + 1);
    seen = [];
    finished = 0;
    let honest = 0;
    const worker = async () => {
      for (let at = offsets.pop(); at !== undefined; at = offsets.pop()) {
        const peer = await open();
        peer.socket.setNoDelay(true);
        await until(() => peer.frames.length >= 2, "SETTINGS were exchanged");
        peer.write(bytes.subarray(0, at));
        await new Promise((resolve) => setTimeout(resolve, 3));
        peer.write(bytes.subarray(at));
        await until(
          () => peer.resets.has(1) || peer.goaway !== undefined || peer.ended.has(1),
          `${vector.id} at ${at} is judged`,
        );
        peer.write(frame.headers(3, GET));
        await until(() => peer.ended.has(3) || peer.closed, "the next request is answered");
        if (peer.ended.has(3)) honest++;
        peer.close();
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    if (vector.expected === "R") expect(finished).toBe(honest);
    expect(honest).toBeGreaterThan(0);
    for (const request of seen) expect(request.url + request.headers).not.toMatch(/smuggled|[\r\n\0]/);
  },
);
