import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createServer as createHttp2Server,
  type Http2Server,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CLIENT_NAME, Hops } from "../../support/hops.ts";

const BIG = Buffer.alloc(3 * 1024 * 1024, "b");

/** Tells what reached it, and does what the path says. */
function createApp(): Server {
  const app = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("error", () => {});
    if (req.url === "/early") {
      res.writeHead(413, { "content-length": 3 });
      res.end("no\n");
      return;
    }
    req.on("end", () => {
      const body = Buffer.concat(chunks);
      switch (req.url) {
        case "/trailers":
          res.writeHead(200, { trailer: "x-sum" });
          res.write("body");
          res.addTrailers({ "x-sum": "1" });
          return res.end();
        case "/big":
          res.setHeader("content-length", BIG.length);
          return res.end(BIG);
        case "/cut":
          res.writeHead(200, { "content-length": 100 });
          res.write("half");
          return setTimeout(() => res.destroy(), 20);
        case "/empty":
          res.writeHead(204);
          return res.end();
        default:
          res.setHeader("x-one", ["a", "b"]);
          return res.end(
            JSON.stringify({
              method: req.method,
              url: req.url,
              headers: req.headers,
              trailers: req.trailers,
              length: body.length,
            }),
          );
      }
    });
  });
  app.on("upgrade", (_req, socket: Socket, head: Buffer) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    if (head.length > 0) socket.write(head);
    socket.pipe(socket);
  });
  return app;
}

interface Answer {
  readonly res: IncomingMessage;
  readonly body: Buffer;
}

function call(
  port: number,
  options: { method?: string; path?: string; headers?: Record<string, string>; body?: Buffer },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({
      host: "127.0.0.1",
      port,
      method: options.method ?? "GET",
      path: options.path ?? "/",
      headers: options.headers ?? {},
    });
    req.on("error", reject);
    req.on("response", (res) => {
      const chunks: Buffer[] = [];
      res.on("data", (chunk: Buffer) => chunks.push(chunk));
      res.on("end", () => resolve({ res, body: Buffer.concat(chunks) }));
      res.on("error", reject);
    });
    req.end(options.body);
  });
}

// As Linkerd's proxies without a collector: W3C, B3 in both forms, OpenCensus.
const TRACE = {
  traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  tracestate: "rojo=00f067aa0ba902b7",
  "grpc-trace-bin": "AAAAAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAgE=",
  "x-b3-traceid": "463ac35c9f6413ad48485a3953bb6124",
  "x-b3-spanid": "a2fb4a1d1a96d312",
  "x-b3-sampled": "1",
  b3: "463ac35c9f6413ad-a2fb4a1d1a96d312-1",
};
const traceOf = (headers: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.keys(TRACE).flatMap((name) => (name in headers ? [[name, headers[name]]] : [])));

describe("HTTP/1 over the mesh", () => {
  let app: Server;
  let hops: Hops;
  beforeAll(async () => {
    app = createApp().listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    hops = await Hops.start({ appPort: (app.address() as AddressInfo).port });
  });
  afterAll(() => {
    hops.close();
    app.close();
  });

  test("a request arrives with the client's identity, and nothing that the proxies told each other", async () => {
    const { res, body } = await call(hops.port, {
      path: "/x?y=1",
      headers: { "l5d-client-id": "forged", "X-Mixed": "v" },
    });
    expect(res.statusCode).toBe(200);
    expect(res.rawHeaders.filter((name) => name === "x-one")).toHaveLength(2);
    const seen = JSON.parse(body.toString()) as { url: string; headers: Record<string, string> };
    expect(seen.url).toBe("/x?y=1");
    expect(seen.headers["l5d-client-id"]).toBe(CLIENT_NAME);
    expect(seen.headers["x-mixed"]).toBe("v");
    expect(seen.headers["host"]).toBe(`127.0.0.1:${hops.port}`);
    expect(seen.headers["l5d-orig-proto"]).toBeUndefined();
    expect(res.headers["l5d-orig-proto"]).toBeUndefined();
  });

  test("a trace passes both hops as it is, and none is begun", async () => {
    const seen = async (headers: Record<string, string>) =>
      traceOf(
        (JSON.parse((await call(hops.port, { headers })).body.toString()) as { headers: Record<string, unknown> })
          .headers,
      );
    expect(await seen(TRACE)).toEqual(TRACE);
    expect(await seen({})).toEqual({});
  });

  test("bodies of known and unknown length arrive whole, both ways", async () => {
    const known = await call(hops.port, {
      method: "POST",
      body: BIG,
      headers: { "content-length": String(BIG.length) },
    });
    expect(JSON.parse(known.body.toString())).toMatchObject({ length: BIG.length });
    const chunked = await call(hops.port, { method: "PUT", body: BIG, headers: { "transfer-encoding": "chunked" } });
    expect(JSON.parse(chunked.body.toString())).toMatchObject({ length: BIG.length });
    const big = await call(hops.port, { path: "/big" });
    expect(big.body.equals(BIG)).toBe(true);
  });

  test("trailers, HEAD, 204", async () => {
    const trailers = await call(hops.port, { path: "/trailers", headers: { te: "trailers" } });
    expect(trailers.res.trailers).toEqual({ "x-sum": "1" });
    const head = await call(hops.port, { method: "HEAD", path: "/big" });
    expect(head.res.headers["content-length"]).toBe(String(BIG.length));
    expect(head.body).toHaveLength(0);
    const empty = await call(hops.port, { path: "/empty" });
    expect(empty.res.statusCode).toBe(204);
    expect(empty.res.headers["transfer-encoding"]).toBeUndefined();
  });

  test("a response that is cut short looks cut short", async () => {
    await expect(call(hops.port, { path: "/cut" })).rejects.toThrow();
  });

  test("an answer before the end of the request reaches the client", async () => {
    const { res } = await call(hops.port, { method: "POST", path: "/early", body: Buffer.alloc(200_000) });
    expect(res.statusCode).toBe(413);
  });

  test("an upgrade becomes a tunnel", async () => {
    const socket = connect(hops.port, "127.0.0.1");
    socket.write("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      if (seen.endsWith("\r\n\r\n")) socket.write("ping");
      if (seen.endsWith("ping")) socket.end();
    });
    await new Promise((resolve) => socket.once("close", resolve));
    expect(seen).toMatch(/^HTTP\/1\.1 101 /);
    expect(seen).toMatch(/ping$/);
  });

  test("pipelined requests are answered in order", async () => {
    const socket = connect(hops.port, "127.0.0.1");
    const count = 50;
    for (let i = 0; i < count; i++)
      socket.write(`GET /${i} HTTP/1.1\r\nHost: a\r\n${i === count - 1 ? "Connection: close\r\n" : ""}\r\n`);
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await new Promise((resolve) => socket.once("close", resolve));
    expect([...seen.matchAll(/"url":"\/(\d+)"/g)].map((match) => Number(match[1]))).toEqual(
      Array.from({ length: count }, (_, i) => i),
    );
  });

  test("a malformed request is refused with 400 and a close", async () => {
    const socket = connect(hops.port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await new Promise((resolve) => socket.once("close", resolve));
    expect(seen).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe("an application that does not listen", () => {
  test("is answered for with 502, and the peer's own headers stay between the proxies", async () => {
    const hops = await Hops.start({ appPort: 1 });
    const { res } = await call(hops.port, {});
    expect(res.statusCode).toBe(502);
    expect(res.headers["l5d-proxy-error"]).toBeUndefined();
    hops.close();
  });
});

describe("HTTP/2 over the mesh", () => {
  let app: Http2Server;
  let hops: Hops;
  let session: ClientHttp2Session;
  beforeAll(async () => {
    app = createHttp2Server();
    app.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      if (headers[":path"] === "/reset") return stream.close(11);
      if (headers[":path"] === "/never") return;
      const trace = JSON.stringify(traceOf(headers));
      const fields = { ":status": 200, "x-client": String(headers["l5d-client-id"]), "x-trace": trace };
      stream.respond(fields, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "2" }));
      stream.pipe(stream);
    });
    app.listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    hops = await Hops.start({ appPort: (app.address() as AddressInfo).port });
    session = connectHttp2(`http://127.0.0.1:${hops.port}`);
    session.on("error", () => {});
  });
  afterAll(() => {
    session.destroy();
    hops.close();
    app.close();
  });

  test("streams both ways at once, with trailers", async () => {
    const stream = session.request({ ":path": "/echo", ":method": "POST" });
    const got: Buffer[] = [];
    let trailers: Record<string, unknown> = {};
    let head: Record<string, unknown> = {};
    stream.on("response", (headers) => {
      head = headers;
    });
    stream.on("trailers", (headers) => {
      trailers = headers;
    });
    stream.on("data", (chunk: Buffer) => got.push(chunk));
    for (let i = 0; i < 40; i++) stream.write(Buffer.alloc(50_000, i));
    stream.end();
    await new Promise((resolve) => stream.once("close", resolve));
    expect(head[":status"]).toBe(200);
    expect(head["x-client"]).toBe(CLIENT_NAME);
    expect(Buffer.concat(got).length).toBe(2_000_000);
    expect(trailers["x-sum"]).toBe("2");
  });

  test("a trace passes both hops as it is, and none is begun, of gRPC as well", async () => {
    const seen = async (headers: Record<string, string>) => {
      const stream = session.request({ ":path": "/a.B/C", ":method": "POST", ...headers });
      stream.end();
      stream.resume();
      const [head] = (await once(stream, "response")) as [Record<string, unknown>];
      return JSON.parse(String(head["x-trace"])) as object;
    };
    expect(await seen({ ...TRACE, "content-type": "application/grpc", te: "trailers" })).toEqual(TRACE);
    expect(await seen({})).toEqual({});
  });

  test("a reset keeps its reason", async () => {
    const stream = session.request({ ":path": "/reset" });
    await new Promise((resolve) => {
      stream.once("error", resolve);
      stream.once("close", resolve);
    });
    expect(stream.rstCode).toBe(11);
  });

  test("a client that cancels frees the application's stream", async () => {
    const cancelled = new Promise((resolve) => app.once("stream", (stream) => stream.once("close", resolve)));
    const stream = session.request({ ":path": "/never" });
    setTimeout(() => stream.close(8), 30);
    await cancelled;
  });
});
