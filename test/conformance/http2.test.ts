import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { Hops, type HopsOptions } from "../support/hops.ts";
import { until } from "../support/until.ts";

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.toReversed()) close();
  closers = [];
});

/** An application that answers with how many bytes it got, and keeps its sessions for tests to end. */
async function start(
  options: Partial<HopsOptions> = {},
): Promise<{ hops: Hops; app: Http2Server; sessions: Set<ServerHttp2Session> }> {
  const app = createServer({ settings: { maxConcurrentStreams: 2_000 } });
  const sessions = new Set<ServerHttp2Session>();
  app.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", () => {});
  });
  app.on("stream", (stream: ServerHttp2Stream) => {
    let bytes = 0;
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.on("end", () => {
      if (stream.destroyed) return;
      stream.respond({ ":status": 200 });
      stream.end(String(bytes));
    });
  });
  app.listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  const hops = await Hops.start({ appPort: (app.address() as AddressInfo).port, ...options });
  closers.push(() => {
    hops.close();
    for (const session of sessions) session.destroy();
    app.close();
  });
  return { hops, app, sessions };
}

function session(port: number): ClientHttp2Session {
  const client = connectHttp2(`http://127.0.0.1:${port}`, { maxSessionMemory: 100 });
  client.on("error", () => {});
  closers.push(() => client.destroy());
  return client;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly code: number | undefined;
}

function ask(client: ClientHttp2Session, body?: Buffer): Promise<Answer> {
  const stream = client.request({ ":path": "/", ":method": body === undefined ? "GET" : "POST" });
  return new Promise((resolve) => {
    let status = 0;
    let text = "";
    stream.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    stream.on("error", () => {});
    stream.on("close", () => resolve({ status, body: text, code: stream.rstCode }));
    stream.end(body);
  });
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("HTTP/2 through both hops", () => {
  test("1,000 requests at once over one connection are all answered", async () => {
    const { hops } = await start();
    const client = session(hops.port);
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => ask(client)));
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
  });

  test("100 uploads of 300 kB at once arrive whole", async () => {
    const { hops } = await start();
    const client = session(hops.port);
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask(client, Buffer.alloc(300_000, "x"))));
    expect(new Set(answers.map(({ status, body }) => `${status} ${body}`))).toEqual(new Set(["200 300000"]));
  });

  test("an application that sends GOAWAY again and again costs no request", async () => {
    const { hops, sessions } = await start();
    const client = session(hops.port);
    let ages = 0;
    const aging = setInterval(() => {
      for (const each of sessions) {
        ages++;
        each.close();
      }
    }, 50);
    closers.push(() => clearInterval(aging));
    const answers: Promise<Answer>[] = [];
    for (let i = 0; i < 200; i++) {
      for (let j = 0; j < 5; j++) answers.push(ask(client));
      await pause(10);
    }
    const failed = (await Promise.all(answers)).filter(({ status }) => status !== 200);
    expect(ages).toBeGreaterThan(10);
    expect(failed).toEqual([]);
  });

  test("a drain of both hops ends when the last request does, and every request is answered", async () => {
    const { hops } = await start();
    const client = session(hops.port);
    const streams = Array.from({ length: 50 }, () => client.request({ ":path": "/", ":method": "POST" }));
    const answers = streams.map(
      (stream) =>
        new Promise((resolve) => {
          stream.on("error", () => resolve("broken"));
          let text = "";
          stream.on("data", (chunk: Buffer) => {
            text += chunk.toString();
          });
          stream.on("end", () => resolve(text));
        }),
    );
    for (const stream of streams) stream.write("12345");
    await until(() => hops.server.ended.length === 0 && hops.server.connections.size === 1, "they are under way");
    await pause(50);
    const drained = Promise.all(
      [hops.client, hops.server].map((hop) => new Promise<void>((resolve) => hop.connections.drain(resolve))),
    );
    await pause(50);
    for (const stream of streams) stream.end("67890");
    expect(new Set(await Promise.all(answers))).toEqual(new Set(["10"]));
    await drained;
  });
});

describe("what else passes both hops", () => {
  test("a client's reason to reset, unless it speaks of its own connection only", async () => {
    const { hops, app } = await start();
    const client = session(hops.port);
    const reasons: number[] = [];
    app.removeAllListeners("stream");
    app.on("stream", (stream: ServerHttp2Stream) => {
      stream.on("error", () => {});
      stream.on("close", () => reasons.push(stream.rstCode));
    });
    for (const code of [8, 2, 11, 3, 1, 0]) {
      const stream = client.request({ ":path": "/", ":method": "POST" });
      stream.on("error", () => {});
      stream.write("x");
      const before = reasons.length;
      await until(() => hops.server.connections.size === 1, "it is under way");
      await pause(30);
      stream.close(code);
      await until(() => reasons.length === before + 1, `reason ${code} arrives`);
    }
    expect(reasons).toEqual([8, 2, 11, 8, 8, 0]);
  });

  test("interim responses in order, and trailers both ways", async () => {
    const { hops, app } = await start();
    app.removeAllListeners("stream");
    app.on("stream", (stream: ServerHttp2Stream) => {
      let trailers: unknown;
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      stream.additionalHeaders({ ":status": 103, link: "</b>" });
      stream.on("trailers", (fields) => {
        trailers = fields["x-sum"];
      });
      stream.resume();
      stream.on("end", () => {
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "x-seen": String(trailers) }));
        stream.end("hi");
      });
    });
    const stream = session(hops.port).request({ ":path": "/", ":method": "POST" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
    const links: unknown[] = [];
    stream.on("headers", (headers) => links.push(headers["link"]));
    const trailers = new Promise((resolve) => stream.on("trailers", (fields) => resolve(fields["x-seen"])));
    stream.resume();
    stream.end("x");
    expect(await trailers).toBe("7");
    expect(links).toEqual(["</a>", "</b>"]);
  });
});

describe("extended CONNECT (RFC 8441)", () => {
  const CONNECT = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":path": "/chat",
    ":authority": "a",
  };

  async function connected(port: number): Promise<ClientHttp2Session> {
    const client = session(port);
    await new Promise((resolve) => client.once("remoteSettings", resolve));
    expect(client.remoteSettings.enableConnectProtocol).toBe(true);
    return client;
  }

  test("is a tunnel to an application that offers it, both ways and to both ends", async () => {
    const { hops, app } = await start();
    app.updateSettings({ enableConnectProtocol: true });
    app.removeAllListeners("stream");
    app.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.respond({ ":status": 200, "x-path": `${headers[":protocol"]} ${headers[":path"]}` });
      stream.on("data", (chunk: Buffer) => stream.write(`echo ${chunk}`));
      stream.on("end", () => stream.end("bye"));
    });
    const stream = (await connected(hops.port)).request(CONNECT);
    const head = new Promise<unknown>((resolve) => stream.on("response", (fields) => resolve(fields["x-path"])));
    let seen = "";
    stream.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    expect(await head).toBe("websocket /chat");
    stream.write("one");
    await until(() => seen === "echo one", "it comes back");
    stream.end("two");
    await until(() => seen === "echo oneecho twobye", "all of it, and the end");
  });

  test("to an application that does not, is sent back to HTTP/1.1", async () => {
    const { hops, app } = await start();
    let asked = 0;
    app.on("stream", () => asked++);
    const stream = (await connected(hops.port)).request(CONNECT);
    stream.on("error", () => {});
    const code = await new Promise((resolve) => stream.on("close", () => resolve(stream.rstCode)));
    expect(code).toBe(13);
    expect(asked).toBe(0);
  });
});
