import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Options, type Http2Stream } from "../../../../../src/proxy/wire/http2/index.ts";
import { clientSide, END_HEADERS, frame, openServer, POST, request, serverSide } from "../../../../support/http2.ts";

const BYTES = 8_000_000;
const MIB = 1 << 20;

/** Uploads over a path of half a round trip each way. @returns how many round trips it took. */
function roundTrips(
  roundTripMs: number,
  options: Http2Options,
  passOn = true,
): { trips: number; largest: number; total: number } {
  const client = clientSide();
  const server = serverSide(options);
  server.recorder.credits = passOn;
  let toServer: Buffer[] = [];
  let toClient: Buffer[] = [];
  const turn = () => {
    const [forServer, forClient] = [toServer, toClient];
    toServer = [];
    toClient = [];
    for (const side of [client, server]) side.now += roundTripMs / 2;
    for (const bytes of forServer) server.receive(bytes);
    for (const bytes of forClient) client.receive(bytes);
    for (const [side, queue] of [
      [client, toServer],
      [server, toClient],
    ] as const) {
      const bytes = side.sink.take();
      if (bytes.length > 0) queue.push(bytes);
    }
  };
  for (let i = 0; i < 6; i++) turn();
  const stream = client.machine.openStream(undefined) as Http2Stream;
  client.machine.sendRequest(stream, request("POST", "/"), false);
  client.machine.sendData(stream, Buffer.alloc(BYTES), true);
  let turns = 0;
  let largest = 0;
  for (let had = 0; had < BYTES && turns < 2_000; turns++) {
    turn();
    const has = server.recorder.content(1).length;
    largest = Math.max(largest, has - had);
    had = has;
    const received = server.recorder.streams.get(1);
    if (!passOn && received !== undefined) server.machine.hold(received, BYTES);
    if (server.recorder.error !== undefined) throw server.recorder.error;
    if (!passOn && turns > 50) break;
  }
  return { trips: turns / 2, largest, total: server.recorder.content(1).length };
}

describe("windows that grow with the path (RFC 9113 §5.2.1)", () => {
  it("a path of 50 ms is filled after a few round trips, up to the bound", () => {
    const fixed = roundTrips(50, {});
    const grown = roundTrips(50, { maxStreamWindowBytes: MIB });
    expect(fixed.trips).toBeGreaterThan(100);
    expect(grown.trips).toBeLessThan(30);
    expect(grown.largest).toBeGreaterThan(500_000);
    expect(grown.largest).toBeLessThanOrEqual(MIB);
  });

  it("a path whose round trip costs nothing needs no larger window", () => {
    expect(roundTrips(1, { maxStreamWindowBytes: MIB }).largest).toBeLessThanOrEqual(65_535);
  });

  it("content that is not passed on makes no window grow", () => {
    expect(roundTrips(50, { maxStreamWindowBytes: MIB }, false).total).toBe(65_535);
  });

  it("a stranger's windows stay, and nobody is asked anything", () => {
    const side = openServer().receive(frame.headers(1, POST, END_HEADERS), frame.data(1, "x"));
    expect(side.frames()).toEqual([]);
  });

  it("a change that is not acknowledged within ten seconds costs the connection", () => {
    const side = openServer({ maxStreamWindowBytes: MIB });
    side.receive(frame.headers(1, POST, END_HEADERS));
    for (let i = 0; i < 3; i++) side.receive(frame.data(1, Buffer.alloc(16_384)));
    const ping = side.sink.take();
    const at = ping.indexOf(Buffer.from([0, 0, 8, 6]));
    expect(at).toBeGreaterThanOrEqual(0);
    side.now += 50;
    side.receive(frame.ping(ping.toString("latin1", at + 9, at + 17), 1));
    expect(side.frames()).toEqual(["SETTINGS 0"]);
    side.pass(10_000);
    expect(side.recorder.error?.code).toBe(ErrorCode.settingsTimeout);
  });

  it("answers that nobody asked for are noise", () => {
    const side = openServer({ maxStreamWindowBytes: MIB, limits: { idleFrames: 10 } });
    for (let i = 0; i < 12; i++) side.receive(frame.ping("bdpe\0\0\0\0", 1));
    expect(side.recorder.error?.code).toBe(ErrorCode.enhanceYourCalm);
  });
});
