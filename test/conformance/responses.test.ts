import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { Hops, identityFrom, SERVER_NAME, SERVER_URI } from "../support/hops.ts";
import { RawOrigin, type SeenRequest } from "../support/raw-origin.ts";
import { until } from "../support/until.ts";

/*
 * What an application may get wrong, through both hops: HTTP/1 from the client, HTTP/2 over mTLS, HTTP/1 to the
 * application. The client never reads one answer as another's, and a cut message looks cut.
 */

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.toReversed()) close();
  closers = [];
});

async function start(answer: (request: SeenRequest) => string | Buffer | undefined) {
  const origin = await RawOrigin.start(answer);
  const hops = await Hops.start({ appPort: origin.port });
  closers.push(
    () => origin.close(),
    () => hops.close(),
  );
  return { origin, hops };
}

/** A client's connection: what it says, and everything it hears. */
class Client {
  readonly socket: Socket;
  heard = "";
  ended = false;
  broken = false;
  closed = false;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("data", (chunk: Buffer) => {
      this.heard += chunk.toString("latin1");
    });
    this.socket.on("end", () => {
      this.ended = true;
    });
    this.socket.on("error", () => {
      this.broken = true;
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
    closers.push(() => this.socket.destroy());
  }

  get statuses(): number[] {
    return [...this.heard.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));
  }

  async ask(path: string, more = "", method = "GET"): Promise<number> {
    const before = this.statuses.length;
    this.socket.write(`${method} ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`);
    await until(() => this.statuses.length > before || this.closed, `${path} is answered`);
    return this.statuses[before] ?? 0;
  }

  gone(): Promise<unknown> {
    return until(() => this.closed, "the connection is closed");
  }
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("answers that are no answers become 502, and their connection is not used again", () => {
  const cases: readonly (readonly [name: string, response: string])[] = [
    ["two different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"],
    ["a length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["an unknown transfer coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc"],
    ["NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"],
    ["a bare CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"],
    ["space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"],
    ["a field without a name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"],
    ["a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"],
    ["a head of 1 MiB", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(1024 * 1024)}\r\nContent-Length: 0\r\n\r\n`],
    ["a sign in the length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"],
    ["no HTTP at all", "220 mail.example ESMTP\r\n\r\n"],
    ["a switch that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"],
  ];
  for (const [name, response] of cases) {
    test(name, async () => {
      const { origin, hops } = await start(({ path }) => (path === "/bad" ? response : OK));
      const client = new Client(hops.port);
      expect(await client.ask("/bad")).toBe(502);
      const again = new Client(hops.port);
      expect(await again.ask("/good")).toBe(200);
      expect(origin.connections).toBe(2);
      expect(origin.seen.every(({ index }) => index === 0)).toBe(true);
    });
  }

  test("a folded field is refused or comes as one line", async () => {
    const { hops } = await start(() => "HTTP/1.1 200 OK\r\nX: a\r\n b: c\r\nContent-Length: 0\r\n\r\n");
    const client = new Client(hops.port);
    const status = await client.ask("/");
    if (status === 200) expect(client.heard).toMatch(/\r\nx: a +b: c\r\n/i);
    else expect(status).toBe(502);
  });
});

describe("bytes that belong to nobody", () => {
  const body = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
  const cases: readonly (readonly [name: string, method: string, head: string])[] = [
    ["after the answer to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n"],
    ["after 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"],
    ["after 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n"],
    ["beyond the length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    ["after the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ];
  for (const [name, method, head] of cases) {
    test(`${name} never reach a client`, async () => {
      const { origin, hops } = await start(({ path }) => (path === "/first" ? head + body : OK));
      const client = new Client(hops.port);
      expect(await client.ask("/first", "", method)).not.toBe(502);
      expect(await client.ask("/second")).toBe(200);
      const other = new Client(hops.port);
      expect(await other.ask("/third")).toBe(200);
      expect(client.heard + other.heard).not.toContain("smuggled");
      expect(origin.seen.find(({ path }) => path === "/second")?.index).toBe(0);
    });
  }

  test("an application that answers without reading the body does not meet it as a request", async () => {
    // It treats every length as zero: what is behind the head would be its next request (CL.0).
    const { origin, hops } = await start(() => OK);
    const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    const client = new Client(hops.port);
    expect(await client.ask("/first", `Content-Length: ${smuggled.length}\r\n`, "POST")).toBe(200);
    client.socket.write(smuggled);
    await pause(100);
    if (!client.closed) await client.ask("/second");
    const other = new Client(hops.port);
    expect(await other.ask("/third")).toBe(200);
    await pause(50);
    expect(origin.paths()).not.toContain("/smuggled");
    expect(client.statuses.length).toBeLessThanOrEqual(2);
  });

  test("a body that the application did ask for in one piece is its own affair, but answers stay apart", async () => {
    const { origin, hops } = await start(({ path }) => OK.replace("ok", path.slice(-2)));
    const smuggled = "GET /zz HTTP/1.1\r\nHost: a\r\n\r\n";
    const client = new Client(hops.port);
    client.socket.write(`POST /aa HTTP/1.1\r\nHost: a\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`);
    await until(() => client.statuses.length === 1, "the first is answered");
    for (const path of ["/bb", "/cc", "/dd"]) {
      const next = new Client(hops.port);
      await next.ask(path);
      await until(() => next.heard.endsWith(path.slice(-2)), `${path} gets its own answer`);
    }
    expect(origin.paths().filter((path) => path !== "/zz")).toEqual(["/aa", "/bb", "/cc", "/dd"]);
  });
});

describe("messages that end too early look cut", () => {
  const cases: readonly (readonly [name: string, response: string])[] = [
    ["a length not reached", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"],
    ["chunked without its last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"],
    ["in the middle of a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\npart"],
    ["a chunk size that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nxyz\r\n"],
  ];
  for (const [name, response] of cases) {
    test(name, async () => {
      const { hops } = await start(({ socket }) => {
        socket.end(response);
        return undefined;
      });
      const client = new Client(hops.port);
      await client.ask("/");
      await client.gone();
      // Nothing that a client could take for a proper end.
      expect(client.heard).not.toMatch(/\r\n0\r\n\r\n$/);
      expect(client.broken || !client.ended || client.statuses[0] === 502).toBe(true);
    });
  }

  test("an answer that ends with its connection is complete after a FIN, cut after a reset", async () => {
    const { hops } = await start(({ path, socket }) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\nall of it");
      setTimeout(() => (path === "/cut" ? socket.resetAndDestroy() : socket.end()), 30);
      return undefined;
    });
    const whole = new Client(hops.port);
    await whole.ask("/whole");
    await until(() => whole.heard.endsWith("\r\n0\r\n\r\n") || whole.ended, "it is complete");
    expect(whole.heard).toContain("all of it");
    expect(whole.broken).toBe(false);
    const cut = new Client(hops.port);
    await cut.ask("/cut");
    await cut.gone();
    expect(cut.heard).not.toMatch(/\r\n0\r\n\r\n$/);
    expect(cut.broken).toBe(true);
  });
});

test("an answer that ends with its connection under TLS is complete after close_notify, cut by a FIN alone (T18)", async () => {
  // An endpoint that speaks HTTP/1 under TLS: its proxy's place is taken by hand.
  let identity: Awaited<ReturnType<typeof identityFrom>> | undefined;
  const endpoint = createServer((carrier) => {
    carrier.on("error", () => {});
    const secure = new TLSSocket(carrier, {
      isServer: true,
      key: identity?.keyPem,
      cert: identity?.certificatePem,
      ALPNProtocols: ["transport.l5d.io/v1"],
    });
    secure.on("error", () => {});
    let heard = "";
    secure.on("data", (chunk: Buffer) => {
      heard += chunk.toString("latin1");
      const path = /GET (\S+) HTTP/.exec(heard)?.[1];
      if (path === undefined) return;
      heard = "";
      secure.write("HTTP/1.1 200 OK\r\n\r\nall of it");
      setTimeout(() => (path === "/cut" ? carrier.end() : secure.end()), 30);
    });
  });
  endpoint.listen(0, "127.0.0.1");
  await once(endpoint, "listening");
  const { port } = endpoint.address() as AddressInfo;
  const hops = await Hops.start({ appPort: port, meshPort: port, hint: undefined });
  closers.push(
    () => hops.close(),
    () => endpoint.close(),
  );
  identity = await identityFrom(hops.authority, SERVER_NAME, SERVER_URI);
  const whole = new Client(hops.port);
  await whole.ask("/whole");
  await until(() => whole.heard.endsWith("\r\n0\r\n\r\n"), "it is complete");
  expect(whole.heard).toContain("all of it");
  expect(whole.broken).toBe(false);
  const cut = new Client(hops.port);
  await cut.ask("/cut");
  await cut.gone();
  expect(cut.heard).toContain("all of it");
  expect(cut.heard).not.toMatch(/\r\n0\r\n\r\n$/);
  expect(cut.broken).toBe(true);
});

describe("interim responses", () => {
  const hint = (i: number) => `HTTP/1.1 103 Early Hints\r\nLink: </${i}>\r\n\r\n`;

  test("up to a hundred are passed on, in order", async () => {
    const { hops } = await start(() => Array.from({ length: 100 }, (_, i) => hint(i)).join("") + OK);
    const client = new Client(hops.port);
    await client.ask("/");
    await until(() => client.heard.endsWith("ok"), "the final one is there");
    expect([...client.heard.matchAll(/<\/(\d+)>/g)].map((match) => Number(match[1]))).toEqual(
      Array.from({ length: 100 }, (_, i) => i),
    );
    expect(client.statuses.at(-1)).toBe(200);
  });

  test("ten thousand are a 502, and memory stays", async () => {
    const { hops } = await start(() => "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000) + OK);
    const client = new Client(hops.port);
    await client.ask("/");
    await until(() => client.statuses.some((status) => status >= 200) || client.closed, "it has ended");
    expect(client.statuses.filter((status) => status < 200).length).toBeLessThanOrEqual(100);
    expect(client.statuses.at(-1)).toBe(502);
  });

  test("a 100 that was waited for is passed on once, and none is invented", async () => {
    const { origin, hops } = await start(({ socket }) => {
      setTimeout(() => socket.write("HTTP/1.1 100 Continue\r\n\r\n"), 50);
      setTimeout(() => socket.write(OK), 100);
      return undefined;
    });
    const client = new Client(hops.port);
    client.socket.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    await until(() => client.statuses.length > 0, "told to go on");
    client.socket.write("hi");
    await until(() => client.heard.endsWith("ok"), "answered");
    expect(client.statuses).toEqual([100, 200]);
    expect(origin.seen[0]?.head.toLowerCase()).toContain("expect: 100-continue");
  });

  test("a 100 that no peer passes on is said in its place, and not again", async () => {
    const { origin, hops } = await start(() => undefined);
    const client = new Client(hops.port);
    client.socket.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    const asked = await until(() => origin.seen[0], "it is asked");
    hops.skip(300);
    await until(() => client.statuses.length > 0, "told to go on");
    client.socket.write("hi");
    asked.socket.write(`HTTP/1.1 100 Continue\r\n\r\n${OK}`);
    await until(() => client.heard.endsWith("ok"), "answered");
    expect(client.statuses).toEqual([100, 200]);
  });
});
