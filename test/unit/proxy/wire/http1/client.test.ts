import { describe, expect, test } from "vitest";
import type { RequestHead } from "../../../../../src/proxy/core/http.ts";
import { ClientRecorder, headers, latin1, requestHead } from "../../../../support/http1.ts";

const END = Buffer.alloc(0);
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

function sent(more: Partial<RequestHead> = {}, endStream = true): ClientRecorder {
  const client = new ClientRecorder();
  client.machine.sendHead(requestHead(more), endStream);
  return client;
}

describe("requests", () => {
  test("without content gain neither length nor coding", () => {
    expect(sent({ path: "/x?y" }).written()).toBe("GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(sent({ method: "POST" }).written()).toBe("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
  });

  test("keep a length of nothing", () => {
    const list = headers(["Host", "a"], ["Content-Length", "0"]);
    expect(sent({ headers: list }).written()).toBe("GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n");
  });

  test("of unknown length are chunked, and may have trailers", () => {
    const client = sent({ method: "POST" }, false);
    client.machine.sendData(latin1("hi"));
    client.machine.sendEnd(headers(["Digest", "x"]));
    expect(client.written()).toBe(
      "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nDigest: x\r\n\r\n",
    );
  });

  test("in every form of target", () => {
    const list = headers(["Host", "a"]);
    expect(sent({ form: "absolute", authority: "b:1", path: "/x", headers: list }).written()).toMatch(
      /^GET http:\/\/b:1\/x HTTP\/1\.1\r\nHost: a\r\n/,
    );
    expect(sent({ form: "asterisk", method: "OPTIONS", path: "*" }).written()).toMatch(/^OPTIONS \* HTTP/);
    expect(sent({ form: "authority", method: "CONNECT", authority: "b:443", path: "" }).written()).toBe(
      "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
  });

  test("gain a Host where there must be one", () => {
    const bare = { headers: headers(["X", "y"]) };
    expect(sent({ ...bare, form: "absolute", authority: "b" }).written()).toBe(
      "GET http://b/ HTTP/1.1\r\nhost: b\r\nX: y\r\n\r\n",
    );
    expect(sent({ ...bare, version: "2", authority: "b" }).written()).toBe("GET / HTTP/1.1\r\nhost: b\r\nX: y\r\n\r\n");
    expect(sent({ ...bare, authority: undefined }).written()).toBe("GET / HTTP/1.1\r\nhost: \r\nX: y\r\n\r\n");
    expect(sent({ ...bare, version: "1.0", authority: "b" }).written()).toBe("GET / HTTP/1.0\r\nX: y\r\n\r\n");
  });

  test("leave out what is meant for one hop, but not the wish to leave HTTP", () => {
    const list = headers(["Host", "a"], ["Connection", "keep-alive, Upgrade"], ["Upgrade", "websocket"]);
    expect(sent({ headers: list }).written()).toBe(
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    );
    const h2c = headers(["Host", "a"], ["Connection", "Upgrade"], ["Upgrade", "h2c"]);
    expect(sent({ headers: h2c }).written()).toBe("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  });

  test("name TE in Connection, so that it goes no further than it is understood", () => {
    const list = headers(["Host", "a"], ["TE", "trailers"]);
    expect(sent({ headers: list }).written()).toBe(
      "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nconnection: te\r\n\r\n",
    );
    const upgrade = headers(["Host", "a"], ["TE", "trailers"], ["Upgrade", "x"]);
    expect(sent({ headers: upgrade }).written()).toBe(
      "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nUpgrade: x\r\nconnection: upgrade, te\r\n\r\n",
    );
  });

  test.each<[string, Partial<RequestHead>, boolean]>([
    ["path with space", { path: "/a HTTP/1.1\r\nX: y" }, true],
    ["path with fragment", { path: "/a#b" }, true],
    ["path beyond latin1", { path: "/\u0120" }, true],
    ["empty path", { path: "" }, true],
    ["method", { method: "GET /smuggled HTTP/1.1\r\n" }, true],
    ["authority", { headers: headers(), authority: "a\r\nX: y" }, true],
    ["absolute without authority", { form: "absolute", authority: undefined }, true],
    ["value", { headers: headers(["Host", "a"], ["X", "y\r\nZ: w"]) }, true],
    ["length without content", { headers: headers(["Host", "a"], ["Content-Length", "2"]) }, true],
    ["two hosts", { headers: headers(["Host", "a"], ["Host", "b"]) }, true],
    ["unknown length in 1.0", { version: "1.0" }, false],
    ["CONNECT with content", { method: "CONNECT", form: "authority", authority: "a:1" }, false],
  ])("cannot be said: %s", (_name, more, endStream) => {
    const client = sent(more, endStream);
    expect(client.take()).toEqual(["error local 500"]);
    expect(client.written()).toBe("");
    expect(client.machine.reusable).toBe(false);
  });

  test("one at a time", () => {
    const client = sent();
    client.machine.sendHead(requestHead(), true);
    expect(client.take()).toEqual(["error local 500"]);
  });
});

describe("responses", () => {
  test("free the connection for the next request, also from within the handler", () => {
    const client = sent();
    let again = true;
    client.react = (event) => {
      if (event !== "response-end" || !again) return;
      again = false;
      expect(client.machine.reusable).toBe(true);
      client.machine.sendHead(requestHead({ path: "/2" }), true);
    };
    client.receive(OK).receive(OK);
    expect(client.take()).toEqual([
      "response 200 1.1 content-length=2",
      "data hi",
      "response-end",
      "response 200 1.1 content-length=2",
      "data hi",
      "response-end",
    ]);
    expect(client.machine.reusable).toBe(true);
  });

  test("to HEAD have no content, whatever they say", () => {
    const client = sent({ method: "HEAD" });
    client.receive("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    expect(client.take()).toEqual(["response 200 1.1 transfer-encoding=chunked |"]);
    expect(client.machine.reusable).toBe(true);
  });

  test("content after HEAD is nobody's, and the connection is over before the handler is told", () => {
    const client = sent({ method: "HEAD" });
    client.react = () => expect(client.machine.reusable).toBe(false);
    client.receive("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    expect(client.take()).toEqual(["response 200 1.1 content-length=2 |"]);
  });

  test("before the request is out: not free until it is", () => {
    const client = sent({ method: "POST", headers: headers(["Host", "a"], ["Content-Length", "2"]) }, false);
    client.receive("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    expect(client.machine.reusable).toBe(false);
    client.machine.sendData(latin1("hi"));
    client.machine.sendEnd(undefined);
    expect(client.machine.reusable).toBe(true);
  });

  test("after the connection ended, sending on does nothing", () => {
    const client = sent({ method: "POST" }, false);
    client.machine.receive(END, 0);
    expect(client.take()).toEqual(["error remote 502"]);
    client.machine.sendData(latin1("hi"));
    client.machine.sendEnd(undefined);
    expect(client.take()).toEqual([]);
  });

  test("to a request of 1.0 end the connection", () => {
    const client = sent({ version: "1.0" });
    client.receive("HTTP/1.1 204 No Content\r\n\r\n");
    expect(client.machine.reusable).toBe(false);
  });

  test("until the connection's end", () => {
    const client = sent();
    client.receive("HTTP/1.1 200 OK\r\n\r\nhi").receive("ho");
    client.machine.receive(END, 0);
    expect(client.take()).toEqual(["response 200 1.1", "data hiho", "response-end"]);
  });

  test("it is known whether one began", () => {
    const client = sent();
    expect(client.machine.responseBegan).toBe(false);
    client.receive("H");
    expect(client.machine.responseBegan).toBe(true);
  });

  test("that are not over yet keep the next request away", () => {
    const client = sent();
    client.receive("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh");
    expect(client.machine.reusable).toBe(false);
    client.receive("i");
    expect(client.machine.reusable).toBe(true);
  });

  test("that nobody asked for", () => {
    const client = new ClientRecorder();
    client.receive("HTTP/1.1 408 Request Timeout\r\n\r\n");
    expect(client.take()).toEqual(["error remote 502"]);
  });

  test("the end while nothing is outstanding is an orderly one", () => {
    const client = new ClientRecorder();
    client.machine.receive(END, 0);
    expect(client.take()).toEqual(["end"]);
    expect(client.machine.reusable).toBe(false);
  });
});

describe("leaving HTTP", () => {
  test("after 101, with the bytes behind it", () => {
    const client = sent({ headers: headers(["Host", "a"], ["Upgrade", "x"]) });
    client.receive("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nfra").receive("mes");
    expect(client.take()).toEqual(["response 101 1.1 upgrade=x |"]);
    expect(client.machine.takeOver().toString()).toBe("frames");
    expect(client.machine.reusable).toBe(false);
  });

  test("after 2xx to CONNECT, whose length means nothing, from within the handler", () => {
    const client = sent({ method: "CONNECT", form: "authority", authority: "b:443", path: "" });
    let unread = "";
    client.react = () => {
      unread = client.machine.takeOver().toString();
    };
    client.receive("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
    expect(unread).toBe("hello");
  });
});
