import { describe, expect, it } from "vitest";
import { ErrorCode, Http2Client, type Http2Stream } from "../../../../../src/proxy/wire/http2/index.ts";
import {
  clientSide,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  headerList,
  OK,
  openClient,
  openServer,
  rawFrame,
  request,
  Side,
} from "../../../../support/http2.ts";

type Client = ReturnType<typeof openClient>;

function send(side: Side<Http2Client>, method = "GET", endStream = true): Http2Stream {
  const stream = side.machine.openStream(undefined);
  if (stream === undefined) throw new Error("no stream");
  side.machine.sendRequest(stream, request(method, "/"), endStream);
  side.sink.take();
  return stream;
}

function expectStreamError(side: Client, streamId: number, code: number): void {
  expect(side.frames()).toContain(`RST_STREAM ${streamId} ${code}`);
  expect(side.recorder.take().at(-1)).toBe(`reset ${streamId} ${code} local`);
  expect(side.recorder.error).toBeUndefined();
}

describe("the beginning", () => {
  it("preface, SETTINGS without push, the connection's window", () => {
    const side = clientSide();
    const bytes = side.sink.take();
    expect(bytes.subarray(0, 24).toString()).toBe("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    expect(bytes.includes(Buffer.from([0, 2, 0, 0, 0, 0]))).toBe(true);
  });

  it("opens a hundred streams before SETTINGS, as many as they say after", () => {
    const side = clientSide();
    for (let i = 0; i < 100; i++) expect(side.machine.openStream(i)).toBeDefined();
    expect(side.machine.openStream(100)).toBeUndefined();
    side.receive(frame.settings([3, 102]));
    expect(side.recorder.take()).toEqual(["capacity"]);
    expect(side.machine.openStream("context")?.context).toBe("context");
    expect(side.machine.openStream(102)?.id).toBe(203);
    expect(side.machine.openStream(103)).toBeUndefined();
  });

  it("a server's preface is SETTINGS (§3.4)", () => {
    const side = clientSide().receive(frame.ping());
    expect(side.recorder.error?.code).toBe(ErrorCode.protocolError);
  });

  it("a server must not enable push (§6.5.2), nor push (§8.4)", () => {
    expect(clientSide().receive(frame.settings([2, 1])).recorder.error?.code).toBe(ErrorCode.protocolError);
    const side = openClient();
    send(side);
    side.receive(rawFrame(5, 4, 1, [0, 0, 0, 2, 0x82]));
    expect(side.recorder.take()).toEqual(["reset 1 1 local", "connection-error 1"]);
  });

  it("extended CONNECT is allowed once both want it, and cannot be taken back (RFC 8441 §3)", () => {
    expect(openClient({}, [8, 1]).machine.allowsExtendedConnect).toBe(false);
    const side = openClient({ extendedConnect: true }, [8, 1]);
    expect(side.machine.allowsExtendedConnect).toBe(true);
    expect(side.receive(frame.settings([8, 0])).recorder.error?.code).toBe(ErrorCode.protocolError);
  });
});

describe("responses", () => {
  it("interim, final, content, trailers", () => {
    const side = openClient();
    send(side);
    side.receive(
      frame.headers(
        1,
        [
          [":status", "103"],
          ["link", "</x>"],
        ],
        END_HEADERS,
      ),
      frame.headers(1, OK, END_HEADERS),
      frame.data(1, "hello"),
      frame.headers(1, [["grpc-status", "0"]]),
    );
    expect(side.recorder.take()).toEqual([
      `interim 1 103 [["link","</x>"]]`,
      "response 1 200 []",
      `trailers 1 [["grpc-status","0"]]`,
    ]);
    expect(side.machine.openStreams).toBe(0);
  });

  it.each<[string, Fields, number]>([
    ["no :status", [["x", "1"]], END_HEADERS],
    ["two :status", [...OK, ...OK], END_HEADERS],
    [":status of letters", [[":status", "abc"]], END_HEADERS],
    [":path", [...OK, [":path", "/"]], END_HEADERS],
    [":status after a field", [["x", "1"], ...OK], END_HEADERS],
    ["status 101", [[":status", "101"]], END_HEADERS],
    ["an interim response that ends the stream", [[":status", "103"]], END_HEADERS | END_STREAM],
    ["connection", [...OK, ["connection", "close"]], END_HEADERS],
    ["CRLF in a value", [...OK, ["x", "a\r\nb: c"]], END_HEADERS],
    ["upper case", [...OK, ["X", "1"]], END_HEADERS],
    ["content-length without content", [...OK, ["content-length", "1"]], END_HEADERS | END_STREAM],
  ])("%s is malformed", (_name, fields, flags) => {
    const side = openClient();
    send(side);
    side.receive(frame.headers(1, fields, flags));
    expectStreamError(side, 1, ErrorCode.protocolError);
  });

  it("content before the head is malformed", () => {
    const side = openClient();
    send(side);
    side.receive(frame.data(1, "x"));
    expectStreamError(side, 1, ErrorCode.protocolError);
  });

  it("content-length and content must agree", () => {
    const side = openClient();
    send(side);
    side.receive(frame.headers(1, [...OK, ["content-length", "3"]], END_HEADERS), frame.data(1, "abcd"));
    expectStreamError(side, 1, ErrorCode.protocolError);
  });

  it("HEAD, 204 and 304 have no content whatever content-length says", () => {
    const side = openClient();
    send(side, "HEAD");
    side.receive(frame.headers(1, [...OK, ["content-length", "9"]]));
    send(side);
    side.receive(
      frame.headers(3, [
        [":status", "304"],
        ["content-length", "9"],
      ]),
    );
    expect(side.recorder.take()).toEqual([
      `response 1 200 [["content-length","9"]] end`,
      `response 3 304 [["content-length","9"]] end`,
    ]);
    send(side, "HEAD");
    side.receive(frame.headers(5, [...OK, ["content-length", "1"]], END_HEADERS), frame.data(5, "x", END_STREAM));
    expectStreamError(side, 5, ErrorCode.protocolError);
  });

  it("CONNECT's response is the head of a tunnel", () => {
    const side = openClient();
    send(side, "CONNECT", false);
    side.receive(frame.headers(1, [...OK, ["content-length", "0"]], END_HEADERS), frame.data(1, "bytes"));
    expect(side.recorder.content(1).toString()).toBe("bytes");
  });

  it("a hundred interim responses are taken, one more costs the stream (B12)", () => {
    const side = openClient();
    send(side);
    for (let i = 0; i < 100; i++) side.receive(frame.headers(1, [[":status", "103"]], END_HEADERS));
    expect(side.recorder.take()).toHaveLength(100);
    side.receive(frame.headers(1, [[":status", "103"]], END_HEADERS));
    expectStreamError(side, 1, ErrorCode.enhanceYourCalm);
  });

  it("a header list that is too large costs the stream", () => {
    const side = openClient();
    send(side);
    side.receive(frame.headers(1, [...OK, ["x", "v".repeat(16_000)], ["y", "v".repeat(350)]], END_HEADERS));
    expectStreamError(side, 1, ErrorCode.protocolError);
  });

  it.each([
    ["HEADERS on a stream nobody opened", frame.headers(3, OK)],
    ["HEADERS on an even stream", frame.headers(2, OK)],
    ["DATA on a stream nobody opened", frame.data(3, "x")],
  ])("%s cost the connection", (_name, bytes) => {
    const side = openClient();
    send(side);
    expect(side.receive(bytes).recorder.error?.code).toBe(ErrorCode.protocolError);
  });

  it("a stream that was opened and not used ends without a frame", () => {
    const side = openClient();
    const stream = side.machine.openStream(undefined) as Http2Stream;
    side.machine.reset(stream, ErrorCode.cancel);
    expect(side.frames()).toEqual([]);
    expect(side.machine.openStreams).toBe(0);
  });

  it("the server may end the request early with NO_ERROR", () => {
    const side = openClient();
    const stream = send(side, "POST", false);
    side.receive(frame.headers(1, [[":status", "413"]]), frame.reset(1, 0));
    expect(side.recorder.take()).toEqual(["response 1 413 [] end", "reset 1 0 remote"]);
    expect(side.machine.sendData(stream, Buffer.from("x"), true)).toBe(true);
    expect(side.frames()).toEqual([]);
  });

  it("responses to what we reset are ignored", () => {
    const side = openClient();
    const stream = send(side);
    side.machine.reset(stream, ErrorCode.cancel);
    side.receive(frame.headers(1, OK, END_HEADERS), frame.data(1, "late"), frame.headers(1, [["x", "1"]]));
    expect(side.recorder.take()).toEqual([]);
    expect(side.frames()).toEqual(["RST_STREAM 1 8"]);
  });

  it("an error code of the server's is passed on (§9.4 of the inbound rules)", () => {
    const side = openClient();
    send(side);
    side.receive(frame.reset(1, ErrorCode.enhanceYourCalm));
    expect(side.recorder.take()).toEqual(["reset 1 11 remote"]);
  });
});

describe("capacity", () => {
  it("comes back when a stream ends, once for all that were refused", () => {
    const side = openClient({}, [3, 1]);
    const stream = send(side);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.machine.reset(stream, ErrorCode.cancel);
    expect(side.recorder.take()).toEqual(["capacity"]);
    send(side);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.receive(frame.headers(3, OK));
    expect(side.recorder.take()).toEqual(["response 3 200 [] end", "capacity"]);
  });

  it("a server that permits no streams is waited for", () => {
    const side = openClient({}, [3, 0]);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.receive(frame.settings([3, 1]));
    expect(side.recorder.take()).toEqual(["capacity"]);
  });
});

describe("the end", () => {
  it("GOAWAY: streams above it were refused, the others go on, no new ones", () => {
    const side = openClient();
    for (let i = 0; i < 3; i++) send(side);
    side.receive(frame.goaway(3, 0));
    expect(side.recorder.take()).toEqual(["reset 5 7 remote", "goaway 3 0"]);
    expect(side.machine.isGoingAway).toBe(true);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.receive(frame.headers(1, OK), frame.headers(3, OK));
    expect(side.machine.openStreams).toBe(0);
    expect(side.recorder.error).toBeUndefined();
  });

  it("GOAWAY with an error is reported as such", () => {
    const side = openClient();
    send(side);
    side.receive(frame.goaway(0, ErrorCode.enhanceYourCalm));
    expect(side.recorder.take()).toEqual(["reset 1 7 remote", "goaway 0 11"]);
  });

  it("half-close: open streams have failed", () => {
    const side = openClient();
    send(side);
    side.receive(Buffer.alloc(0));
    expect(side.recorder.take()).toEqual(["reset 1 2 remote", "end"]);
    expect(side.machine.openStream(undefined)).toBeUndefined();
  });

  it("the last identifier ends the connection as a GOAWAY would (F18)", () => {
    class Late extends Http2Client {
      override nextStreamId = 0x7fff_fffd;
    }
    const side = new Side((recorder, sink) => new Late(recorder, sink));
    side.receive(frame.settings());
    send(side);
    expect(side.machine.isGoingAway).toBe(false);
    send(side);
    expect(side.recorder.take()).toEqual(["capacity", "goaway 2147483647 0"]);
    expect(side.machine.isGoingAway).toBe(true);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.receive(frame.headers(0x7fff_fffd, OK), frame.headers(0x7fff_ffff, OK));
    expect(side.machine.openStreams).toBe(0);
  });

  it("shutdown: GOAWAY once, open streams go on", () => {
    const side = openClient();
    send(side);
    side.machine.shutdown();
    side.machine.shutdown();
    expect(side.frames()).toEqual(["GOAWAY 0 0 0"]);
    expect(side.machine.openStream(undefined)).toBeUndefined();
    side.receive(frame.headers(1, OK));
    expect(side.recorder.take()).toEqual(["response 1 200 [] end"]);
  });
});

describe("requests", () => {
  it("CONNECT has an authority and nothing else (§8.5)", () => {
    const side = openClient();
    const stream = side.machine.openStream(undefined) as Http2Stream;
    side.machine.sendRequest(stream, request("CONNECT", "", [], { authority: "db:1", form: "authority" }), false);
    const server = openServer();
    server.receive(side.sink.take());
    expect(server.recorder.take()).toEqual(["request 1 CONNECT http://db:1 []"]);
  });

  it("trailers follow content that waits for the window", () => {
    const side = openClient({}, [4, 3]);
    const stream = send(side, "POST", false);
    expect(side.machine.sendData(stream, Buffer.from("hello"), false)).toBe(false);
    side.machine.sendTrailers(stream, headerList([["x", "1"]]));
    expect(side.frames()).toEqual(["DATA 1 [3]"]);
    side.receive(frame.windowUpdate(1, 100));
    expect(side.frames()).toEqual(["DATA 1 [2]", "HEADERS 1 end"]);
    expect(side.recorder.take()).toEqual(["writable 1"]);
  });
});
