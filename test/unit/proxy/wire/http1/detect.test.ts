import { describe, expect, test } from "vitest";
import { detectHttp, MAX_DETECT_BYTES } from "../../../../../src/proxy/wire/http1/index.ts";
import { latin1 } from "../../../../support/http1.ts";

const verdict = (text: string) => detectHttp(latin1(text));

describe("HTTP/2", () => {
  test.each(["P", "PRI * HTTP/2."])("%j may become the preface", (text) => expect(verdict(text)).toBe("more"));
  test.each(["PRI * HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\nnonsense"])("%j", (text) =>
    expect(verdict(text)).toBe("http2"),
  );
  test("a preface that turns into something else is HTTP/1's to refuse", () => {
    expect(verdict("PRI / HTTP/1.1\r\n")).toBe("http1");
    expect(verdict("\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).toBe("http1");
  });
});

describe("HTTP/1", () => {
  test.each([
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1",
    "GET / HTTP/1",
    "\r\nGET / HTTP/1.1\r\n",
    "\r\n\r\n \tGET / HTTP/1.1\r\n",
    "PROPFIND http://a/ HTTP/1.0\n",
    "get / http/1.1\r\n",
    "G(T / HTTP/1.1\r\n",
    "GET\t/\tHTTP/1.1\r\n",
    "GET /\xff\x01\x7f HTTP/1.1\r\n",
    "GET /old\r\n",
    `GET /${"a".repeat(MAX_DETECT_BYTES)}`,
    "\r\n".repeat(MAX_DETECT_BYTES),
  ])("%j is for a strict parser to judge", (text) => expect(verdict(text)).toBe("http1"));
});

describe("undecided", () => {
  test.each(["", "G", "GET", "GET ", "GET / HTT", "\r\n", "EHLO mail.example.com", "GET /a".padEnd(8191, "a")])(
    "%j",
    (text) => expect(verdict(text)).toBe("more"),
  );
});

describe("not HTTP", () => {
  test.each([
    "\x16\x03\x01",
    "\x00",
    "EHLO mail.example.com\r\n",
    "*1\r\n$4\r\nPING\r\n",
    "SSH-2.0-OpenSSH_9.2 Debian\r\n",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n",
    "0\x84\x00\x00",
    "AMQP\x00\x00\x09\x01",
    "\xe4 / HTTP/1.1\r\n",
  ])("%j", (text) => expect(verdict(text)).toBe("not-http"));
});

test("more bytes never turn one verdict into another", () => {
  for (const text of ["GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HELO a\r\nDATA\r\n"]) {
    let last = "more";
    for (let end = 0; end <= text.length; end++) {
      const now = verdict(text.slice(0, end));
      if (last !== "more") expect(now).toBe(last);
      last = now;
    }
  }
});
