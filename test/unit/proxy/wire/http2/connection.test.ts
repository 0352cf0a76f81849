import { describe, expect, it } from "vitest";
import { ErrorCode, type Http2Stream } from "../../../../../src/proxy/wire/http2/index.ts";
import { clientSide, exchange, headerList, request, response, serverSide } from "../../../../support/http2.ts";

function pair() {
  const client = clientSide();
  const server = serverSide();
  exchange(client, server);
  client.recorder.take();
  return { client, server };
}

function open(client: ReturnType<typeof clientSide>): Http2Stream {
  const stream = client.machine.openStream(undefined);
  if (stream === undefined) throw new Error("no stream");
  return stream;
}

describe("a client and a server", () => {
  it("exchange a request and a response without content", () => {
    const { client, server } = pair();
    const stream = open(client);
    client.machine.sendRequest(stream, request("GET", "/x?y=1", [["accept", "*/*"]]), true);
    exchange(client, server);
    expect(server.recorder.take()).toEqual([`request 1 GET http://a/x?y=1 [["accept","*/*"]] end`]);
    server.machine.sendHead(server.recorder.streams.get(1) as Http2Stream, response(204), true);
    exchange(client, server);
    expect(client.recorder.take()).toEqual(["response 1 204 [] end"]);
    expect(client.machine.openStreams).toBe(0);
    expect(server.machine.openStreams).toBe(0);
  });

  it("carry content and trailers both ways, beyond every window", () => {
    const { client, server } = pair();
    const stream = open(client);
    const upload = Buffer.alloc(300_000, "u");
    const download = Buffer.alloc(2_000_000, "d");
    client.machine.sendRequest(stream, request("POST", "/", [["te", "trailers"]]), false);
    expect(client.machine.sendData(stream, upload, false)).toBe(false);
    client.machine.sendTrailers(stream, headerList([["x-sum", "1"]]));
    exchange(client, server);
    expect(server.recorder.take()).toEqual([
      `request 1 POST http://a/ [["te","trailers"]]`,
      `trailers 1 [["x-sum","1"]]`,
    ]);
    expect(server.recorder.content(1).equals(upload)).toBe(true);
    const answered = server.recorder.streams.get(1) as Http2Stream;
    server.machine.sendInterim(answered, response(103, [["link", "</x>"]]));
    server.machine.sendHead(answered, response(200, [["grpc-status", "0"]]), false);
    expect(server.machine.sendData(answered, download, false)).toBe(false);
    server.machine.sendTrailers(answered, headerList([["grpc-status", "0"]]));
    exchange(client, server);
    expect(server.recorder.take()).toEqual(["writable 1"]);
    expect(client.recorder.take()).toEqual([
      "writable 1",
      `interim 1 103 [["link","</x>"]]`,
      `response 1 200 [["grpc-status","0"]]`,
      `trailers 1 [["grpc-status","0"]]`,
    ]);
    expect(client.recorder.content(1).equals(download)).toBe(true);
    expect(client.machine.openStreams + server.machine.openStreams).toBe(0);
  });

  it("carry 1,000 streams over one connection, 100 at a time", () => {
    const { client, server } = pair();
    server.recorder.react = (event, stream) => {
      if (!event.startsWith("data-end") || stream === undefined) return;
      server.machine.sendHead(stream, response(200, [["content-length", "5"]]), false);
      server.machine.sendData(stream, Buffer.from("hello"), true);
    };
    let sent = 0;
    const send = () => {
      while (sent < 1000) {
        const stream = client.machine.openStream(undefined);
        if (stream === undefined) return;
        client.machine.sendRequest(stream, request("POST", `/${sent++}`, [["content-length", "1000"]]), false);
        client.machine.sendData(stream, Buffer.alloc(1000, "x"), true);
      }
    };
    client.recorder.react = (event) => {
      if (event === "capacity") send();
    };
    send();
    expect(sent).toBe(100);
    exchange(client, server);
    expect(sent).toBe(1000);
    expect(client.recorder.events.filter((event) => event.startsWith("data-end"))).toHaveLength(1000);
    expect(client.machine.openStreams + server.machine.openStreams).toBe(0);
  });

  it("reset streams from either side, and go on", () => {
    const { client, server } = pair();
    const first = open(client);
    client.machine.sendRequest(first, request("POST", "/"), false);
    exchange(client, server);
    client.machine.reset(first, ErrorCode.cancel);
    const second = open(client);
    client.machine.sendRequest(second, request("POST", "/"), false);
    exchange(client, server);
    server.machine.reset(server.recorder.streams.get(3) as Http2Stream, ErrorCode.refusedStream);
    client.machine.sendData(second, Buffer.from("on its way"), true);
    exchange(client, server);
    expect(server.recorder.take().filter((event) => event.startsWith("reset"))).toEqual(["reset 1 8 remote"]);
    expect(client.recorder.take()).toEqual(["reset 3 7 remote"]);
    const third = open(client);
    client.machine.sendRequest(third, request("GET", "/"), true);
    exchange(client, server);
    expect(server.recorder.take()).toHaveLength(1);
    expect(server.recorder.error).toBeUndefined();
  });

  it("end gracefully: requests on their way are still served, later ones are not sent", () => {
    const { client, server } = pair();
    const first = open(client);
    client.machine.sendRequest(first, request("GET", "/1"), true);
    exchange(client, server);
    server.machine.shutdown();
    expect(server.machine.isGoingAway).toBe(true);
    // The client has not read the GOAWAY yet.
    const second = open(client);
    client.machine.sendRequest(second, request("GET", "/2"), true);
    exchange(client, server);
    expect(server.recorder.take().filter((event) => event.startsWith("request"))).toHaveLength(2);
    expect(client.recorder.take()).toEqual(["goaway 2147483647 0", "goaway 3 0"]);
    expect(client.machine.openStream(undefined)).toBeUndefined();
    for (const stream of server.recorder.streams.values()) server.machine.sendHead(stream, response(200), true);
    exchange(client, server);
    expect(client.recorder.take()).toHaveLength(2);
    expect(client.machine.openStreams + server.machine.openStreams).toBe(0);
  });
});
