import { describe, expect, test } from "vitest";
import { DEFAULT_HTTP1_LIMITS } from "../../../../../src/proxy/wire/http1/index.ts";
import { headers, latin1, responseHead, ServerRecorder } from "../../../../support/http1.ts";

const GET = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const END = Buffer.alloc(0);

function started(text: string): ServerRecorder {
  return new ServerRecorder().receive(text);
}

describe("requests", () => {
  test("without content", () => {
    expect(started(GET).take()).toEqual(["request GET origin http a /x 1.1 host=a |"]);
  });

  test("with a length", () => {
    const server = started("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    server.receive("lo");
    expect(server.take()).toEqual([
      "request POST origin http a / 1.1 host=a content-length=5",
      "data hello",
      "request-end",
    ]);
  });

  test("chunked, with trailers", () => {
    const server = started(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x\r\n ho\r\n0\r\nDigest: y\r\n\r\n",
    );
    expect(server.take().slice(1)).toEqual(["data hi ho", "request-end digest=y"]);
  });

  test("targets in every form", () => {
    const forms = [
      ["GET http://B:80/p?q HTTP/1.1", "request GET absolute http B:80 /p?q 1.1 host=B:80 |"],
      ["GET HTTPS://b HTTP/1.1", "request GET absolute https b / 1.1 host=b |"],
      ["OPTIONS http://b HTTP/1.1", "request OPTIONS asterisk http b * 1.1 host=b |"],
      ["OPTIONS http://b/ HTTP/1.1", "request OPTIONS absolute http b / 1.1 host=b |"],
      ["GET http://b?q HTTP/1.1", "request GET absolute http b /?q 1.1 host=b |"],
      ["OPTIONS * HTTP/1.1", "request OPTIONS asterisk http a * 1.1 host=a |"],
      ["CONNECT b:443 HTTP/1.1", "request CONNECT authority http b:443  1.1 host=a |"],
    ] as const;
    for (const [line, event] of forms) expect(started(`${line}\r\nHost: a\r\n\r\n`).take()).toEqual([event]);
  });

  test("an empty Host is no authority", () => {
    expect(started("GET / HTTP/1.1\r\nHost:\r\n\r\n").head?.authority).toBeUndefined();
    expect(started("GET / HTTP/1.0\r\n\r\n").head?.authority).toBeUndefined();
  });

  test.each([
    [`GET /${"a".repeat(70_000)} HTTP/1.1\r\n`, 414],
    [`GET /${"a".repeat(40_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
    [`GET / HTTP/1.1\r\nX: ${"a".repeat(70_000)}\r\n`, 431],
    [`GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(100)}\r\n`, 431],
    ["GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505],
    ["GET / HTTP/1.1\r\n\r\n", 400],
  ])("is refused with the status that says why: %#", (text, code) => {
    expect(started(text).error?.code).toBe(code);
  });

  test("100 fields are taken", () => {
    expect(started(`GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(99)}\r\n`).error).toBeUndefined();
  });
});

describe("responses", () => {
  test("with a length, in the case the fields came in", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(200, headers(["Content-Length", "5"], ["X-Y", "z"])), false);
    server.machine.sendData(latin1("hello"));
    server.machine.sendEnd(undefined);
    expect(server.written()).toBe("HTTP/1.1 200 OK\r\nX-Y: z\r\ncontent-length: 5\r\n\r\nhello");
    expect(server.machine.isComplete).toBe(true);
  });

  test("without a length are chunked and may have trailers", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(200), false);
    server.machine.sendData(latin1("hi"));
    server.machine.sendData(Buffer.alloc(0));
    server.machine.sendData(Buffer.alloc(5000, 97));
    server.machine.sendEnd(headers(["Digest", "x"], ["Content-Length", "9"]));
    expect(server.written()).toBe(
      `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1388\r\n${"a".repeat(5000)}\r\n0\r\nDigest: x\r\n\r\n`,
    );
  });

  test("that end with the head say so", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(404), true);
    expect(server.written()).toBe("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
  });

  test("to HEAD, and 304, keep the length and have no content", () => {
    const server = started("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.machine.sendHead(responseHead(200, headers(["Content-Length", "5"])), false);
    server.machine.sendData(latin1("hello"));
    server.machine.sendEnd(undefined);
    server.machine.advance(0);
    server.receive(GET);
    server.machine.sendHead(responseHead(304, headers(["Content-Length", "5"])), true);
    expect(server.written()).toBe(
      "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    );
    expect(server.error).toBeUndefined();
  });

  test("with 204 have neither length nor coding", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(204, headers(["Content-Length", "0"])), true);
    expect(server.written()).toBe("HTTP/1.1 204 No Content\r\n\r\n");
  });

  test("leave out what is meant for one hop", () => {
    const server = started(GET);
    const list = headers(
      ["Connection", "x"],
      ["Keep-Alive", "timeout=5"],
      ["Transfer-Encoding", "chunked"],
      ["Upgrade", "h2c"],
      ["Proxy-Connection", "close"],
    );
    server.machine.sendHead(responseHead(200, list), true);
    expect(server.written()).toBe("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  });

  test("keep a reason phrase that came with them", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(299, headers(), { reason: "Fine" }), true);
    expect(server.written()).toMatch(/^HTTP\/1\.1 299 Fine\r\n/);
  });

  test("interim ones come first, and not to HTTP/1.0", () => {
    const server = started(GET);
    server.machine.sendInterim(responseHead(103, headers(["Link", "x"])));
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toBe("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    const old = started("GET / HTTP/1.0\r\n\r\n");
    old.machine.sendInterim(responseHead(103));
    expect(old.written()).toBe("");
  });

  test("to HTTP/1.0 end with the connection, or keep it when it was asked for and the length is known", () => {
    const old = started("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    old.machine.sendHead(responseHead(200), false);
    old.machine.sendData(latin1("hi"));
    old.machine.sendEnd(undefined);
    expect(old.written()).toBe("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi");
    expect(old.machine.keepAlive).toBe(false);
    const kept = started("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    kept.machine.sendHead(responseHead(200, headers(["Content-Length", "0"])), true);
    expect(kept.written()).toBe("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n");
    expect(kept.machine.keepAlive).toBe(true);
  });

  test("announce the end of the connection", () => {
    const server = started("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(server.machine.keepAlive).toBe(false);
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toBe("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    const drained = started(GET);
    drained.machine.closeAfterResponse();
    drained.machine.sendHead(responseHead(204), true);
    expect(drained.written()).toContain("connection: close");
  });
});

describe("what cannot be said is not said", () => {
  function broken(say: (server: ServerRecorder) => void): string {
    const server = started(GET);
    server.take();
    say(server);
    expect(server.take().at(-1)).toBe("error local 500");
    return server.written();
  }
  const length = (value: string) => responseHead(200, headers(["Content-Length", value]));

  test("more content than declared", () => {
    const written = broken(({ machine }) => {
      machine.sendHead(length("2"), false);
      machine.sendData(latin1("hello"));
      machine.sendData(latin1("x"));
    });
    expect(written).toBe("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
  });

  test("less content than declared", () => {
    broken(({ machine }) => {
      machine.sendHead(length("2"), false);
      machine.sendEnd(undefined);
    });
    expect(broken(({ machine }) => machine.sendHead(length("2"), true))).toBe("");
  });

  test("lengths that are none, or two", () => {
    expect(broken(({ machine }) => machine.sendHead(length("x"), true))).toBe("");
    const two = responseHead(200, headers(["Content-Length", "1"], ["Content-Length", "2"]));
    expect(broken(({ machine }) => machine.sendHead(two, false))).toBe("");
  });

  test.each(["a\r\nX: y", "a\r\n\r\nHTTP/1.1 200 OK", "a\nb", "a\0b", "\u010d\u010a", "\u0100", "\u0142"])(
    "a value that would begin another line, or is cut to bytes: %#",
    (value) => {
      expect(broken(({ machine }) => machine.sendHead(responseHead(302, headers(["Location", value])), true))).toBe("");
    },
  );

  test("a HTAB is no control character", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(200, headers(["X", "a\tb"])), true);
    expect(server.written()).toContain("X: a\tb\r\n");
  });

  test("101 that nobody asked for, two heads, content before a head", () => {
    expect(broken(({ machine }) => machine.sendHead(responseHead(101), true))).toBe("");
    broken(({ machine }) => {
      machine.sendHead(responseHead(204), true);
      machine.sendHead(responseHead(204), true);
    });
    broken(({ machine }) => machine.sendData(latin1("x")));
  });

  test("a broken head leaves room for one more answer", () => {
    const server = started(GET);
    server.machine.sendHead(length("x"), true);
    server.machine.sendHead(responseHead(500), true);
    expect(server.written()).toBe(
      "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
  });
});

describe("pipelining", () => {
  test("one request at a time, in order", () => {
    const server = started(GET.repeat(3));
    expect(server.take()).toHaveLength(1);
    for (let i = 0; i < 2; i++) {
      server.machine.sendHead(responseHead(204), true);
      server.machine.advance(0);
      expect(server.take()).toHaveLength(1);
    }
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
    expect(server.take()).toEqual([]);
  });

  test("answers from within the handler go on to the next request", () => {
    const server = new ServerRecorder();
    server.react = (event) => {
      if (event !== "request") return;
      server.machine.sendHead(responseHead(204), true);
      server.machine.advance(0);
    };
    server.receive(GET.repeat(3_000));
    expect(server.take()).toHaveLength(3_000);
  });

  test("what waits is bounded, and reading pauses", () => {
    const server = started(GET);
    expect(server.machine.wantsPause).toBe(false);
    server.receive(GET.repeat(3_000));
    expect(server.machine.wantsPause).toBe(true);
    server.machine.sendHead(responseHead(204), true);
    server.react = (event) => {
      if (event !== "request") return;
      server.machine.sendHead(responseHead(204), true);
      server.machine.advance(0);
    };
    server.machine.advance(0);
    expect(server.take()).toHaveLength(3_001);
    expect(server.machine.wantsPause).toBe(false);
  });

  test("one byte at a time costs no copy per byte", () => {
    const server = started(GET);
    const bytes = latin1(GET.repeat(1_000));
    for (const byte of bytes) server.machine.receive(Buffer.of(byte), 0);
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
    expect(server.take()).toHaveLength(2);
  });

  test("nothing is read behind a request that closes", () => {
    const server = started(`GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n${GET}`);
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
    expect(server.take()).toHaveLength(1);
    expect(server.machine.takeOver()).toHaveLength(0);
  });
});

describe("content nobody waits for", () => {
  test("is read to its end before the next request", () => {
    const server = started("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    server.machine.sendHead(responseHead(413), true);
    server.machine.advance(0);
    expect(server.machine.isComplete).toBe(false);
    server.receive(`hello${GET}`);
    expect(server.machine.isComplete).toBe(true);
    server.take();
    server.machine.advance(0);
    expect(server.take()).toEqual(["request GET origin http a /x 1.1 host=a |"]);
  });

  test("is read up to a bound", () => {
    const server = started("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    server.machine.sendHead(responseHead(413), true);
    server.machine.receive(Buffer.alloc(60_000), 0);
    expect(server.error).toBeUndefined();
    server.machine.receive(Buffer.alloc(10_000), 0);
    expect(server.error?.code).toBe(413);
  });
});

describe("leaving HTTP", () => {
  const UPGRADE = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

  test("after 101", () => {
    const server = started(UPGRADE);
    server.machine.sendHead(responseHead(101, headers(["Upgrade", "websocket"], ["Connection", "x"])), true);
    expect(server.written()).toBe(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    );
    server.receive("frames");
    expect(server.machine.takeOver().toString()).toBe("frames");
    server.receive(GET);
    expect(server.take()).toHaveLength(1);
  });

  test("after CONNECT, with bytes sent ahead", () => {
    const server = started("CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\nhello");
    server.machine.sendHead(responseHead(200, headers(["Content-Length", "0"])), true);
    expect(server.written()).toBe("HTTP/1.1 200 OK\r\n\r\n");
    expect(server.machine.takeOver().toString()).toBe("hello");
  });

  test("a refused CONNECT ends the connection: what follows may be meant for the tunnel", () => {
    const server = started(`CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n${GET}`);
    server.machine.sendHead(responseHead(403), true);
    server.machine.advance(0);
    expect(server.written()).toContain("connection: close");
    expect(server.take()).toHaveLength(1);
  });

  test("a refused upgrade does not", () => {
    const server = started(UPGRADE + GET);
    server.machine.sendHead(responseHead(404), true);
    server.machine.advance(0);
    expect(server.take()).toHaveLength(2);
  });
});

describe("half-close", () => {
  test("between requests is an orderly end", () => {
    const server = new ServerRecorder();
    server.machine.receive(END, 0);
    expect(server.take()).toEqual(["end"]);
  });

  test.each(["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh"])(
    "inside a request is not",
    (text) => {
      const server = started(text);
      server.machine.receive(END, 0);
      expect(server.take().at(-1)).toBe("error remote 400");
    },
  );

  test("while a response is due: the response, announced as the last one", () => {
    const server = started(GET);
    server.machine.receive(END, 0);
    expect(server.take()).toHaveLength(1);
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toContain("connection: close");
  });

  test("while requests wait: they are answered first", () => {
    const server = started(GET + GET);
    server.machine.receive(END, 0);
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(0);
    expect(server.take()).toHaveLength(2);
    expect(server.machine.keepAlive).toBe(false);
  });
});

describe("time", () => {
  test("for a head begins with its first byte", () => {
    const server = new ServerRecorder();
    server.machine.advance(1000);
    expect(server.machine.timeoutAt()).toBe(61_000);
    server.receive("GET", 5000);
    server.receive(" ", 9000);
    expect(server.machine.timeoutAt()).toBe(15_000);
    server.machine.expire(14_999);
    expect(server.error).toBeUndefined();
    server.machine.expire(15_000);
    expect(server.error?.code).toBe(408);
    server.machine.sendHead(responseHead(408), true);
    expect(server.written()).toBe("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });

  test("between requests ends the connection in order", () => {
    const server = new ServerRecorder();
    server.machine.advance(0);
    server.receive(GET, 10);
    expect(server.machine.timeoutAt()).toBeUndefined();
    server.machine.sendHead(responseHead(204), true);
    server.machine.advance(500);
    expect(server.machine.timeoutAt()).toBe(60_500);
    server.machine.expire(60_500);
    expect(server.take().at(-1)).toBe("end");
  });

  const POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";

  test("content that trickles is given up", () => {
    const server = started(POST);
    server.machine.receive(Buffer.alloc(16_384), 1000);
    server.machine.expire(60_000);
    expect(server.error).toBeUndefined();
    server.machine.receive(Buffer.alloc(16_383), 70_000);
    server.machine.expire(120_000);
    expect(server.error?.code).toBe(408);
  });

  test("content is not too slow while it is not read, or once the response began", () => {
    const held = started(POST);
    held.machine.isHeld = true;
    held.machine.expire(60_000);
    expect(held.error).toBeUndefined();
    const answered = started(POST);
    answered.machine.sendHead(responseHead(200), false);
    answered.machine.expire(60_000);
    expect(answered.error).toBeUndefined();
  });

  test("can be without limits", () => {
    const server = new ServerRecorder({
      ...DEFAULT_HTTP1_LIMITS,
      idleTimeoutMs: undefined,
      contentWindowMs: undefined,
    });
    server.machine.advance(0);
    expect(server.machine.timeoutAt()).toBeUndefined();
    server.receive(POST);
    expect(server.machine.timeoutAt()).toBeUndefined();
  });
});

describe("wrapping up", () => {
  test("an idle client's next request is answered, and the answer announces the end", () => {
    const server = new ServerRecorder();
    server.machine.advance(0);
    server.machine.wrapUp(100, 5_000);
    expect(server.machine.timeoutAt()).toBe(5_100);
    server.receive(GET);
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toBe("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    expect(server.machine.keepAlive).toBe(false);
  });

  test("an idle client that stays silent hears the end after the patience", () => {
    const server = new ServerRecorder();
    server.machine.advance(0);
    server.machine.wrapUp(100, 5_000);
    server.machine.expire(5_099);
    expect(server.take()).toEqual([]);
    server.machine.expire(5_100);
    expect(server.take()).toEqual(["end"]);
  });

  test("a response that is not yet on its way announces the end", () => {
    const server = started(GET);
    server.machine.wrapUp(0, 5_000);
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toContain("connection: close");
  });

  test("after a response that was on its way without saying so, one more request is answered", () => {
    const server = started(GET);
    server.machine.sendHead(responseHead(200, headers(["Content-Length", "2"])), false);
    expect(server.written()).not.toContain("connection: close");
    server.machine.wrapUp(0, 5_000);
    server.machine.sendData(Buffer.from("hi"));
    server.machine.sendEnd(undefined);
    expect(server.machine.keepAlive).toBe(true);
    server.machine.advance(50);
    expect(server.machine.timeoutAt()).toBe(5_050);
    server.receive(GET);
    server.machine.sendHead(responseHead(204), true);
    expect(server.written()).toContain("connection: close");
  });
});
