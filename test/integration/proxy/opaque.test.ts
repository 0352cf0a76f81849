import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { Hops, SERVER_NAME } from "../../support/hops.ts";

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers) close();
  closers = [];
});

async function start(
  handler: (socket: Socket) => void,
  options: { opaque?: boolean; meshPort?: number } = {},
): Promise<Hops> {
  const app: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    handler(socket);
  });
  app.listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  const hops = await Hops.start({ appPort: (app.address() as AddressInfo).port, opaque: true, ...options });
  closers.push(() => {
    hops.close();
    app.close();
  });
  return hops;
}

function dial(port: number): Socket {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.on("error", () => {});
  return socket;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const closed = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

describe("opaque connections over the mesh", () => {
  test("closing everything in the middle of handshakes spares the process", async () => {
    const hops = await start((socket) => socket.resume());
    const sockets: Socket[] = [];
    // Handshakes at every stage: begun in this turn and in those before.
    for (let turn = 0; turn < 40; turn++) {
      for (let i = 0; i < 4; i++) sockets.push(dial(hops.port));
      await pause(2);
    }
    hops.client.close();
    // What ends now ends within a read of OpenSSL's; where that goes wrong, this process dies.
    await pause(300);
    for (const socket of sockets) socket.destroy();
    const another = await start((socket) => socket.pipe(socket));
    const echoed = dial(another.port);
    echoed.end("still here");
    const [chunk] = (await once(echoed, "data")) as [Buffer];
    expect(String(chunk)).toBe("still here");
  });

  test("an end is announced by close_notify, in both directions", async () => {
    const heard: [toServer: Buffer[], toClient: Buffer[]] = [[], []];
    let directPort = 0;
    // Between the hops: what each says before its FIN.
    const tap = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ host: "127.0.0.1", port: directPort, allowHalfOpen: true });
      const pass = (from: Socket, to: Socket, chunks: Buffer[]) => {
        from.on("data", (chunk: Buffer) => chunks.push(chunk));
        from.on("error", () => {});
        from.pipe(to);
      };
      pass(near, far, heard[0]);
      pass(far, near, heard[1]);
    });
    tap.listen(0, "127.0.0.1");
    await once(tap, "listening");
    closers.push(() => tap.close());
    const hops = await start((socket) => socket.pipe(socket), { meshPort: (tap.address() as AddressInfo).port });
    directPort = hops.directPort;
    const socket = dial(hops.port);
    socket.end("hello");
    socket.resume();
    await closed(socket);
    await pause(100);
    for (const chunks of heard) {
      const bytes = Buffer.concat(chunks);
      let last = 0;
      for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) last = at;
      // RFC 8446 §6.1: an alert of two bytes, with its type and the tag of the cipher.
      expect([bytes[last], bytes.length - last]).toEqual([23, 5 + 2 + 1 + 16]);
    }
  });

  test.each([
    ["answer", "far"],
    ["request", "near"],
  ] as const)(
    "a FIN between the hops without close_notify cuts the %s: its reader is reset (T18)",
    async (_what, side) => {
      let directPort = 0;
      const between: { near?: Socket; far?: Socket } = {};
      const cutter = createServer({ allowHalfOpen: true }, (near) => {
        const far = connect({ host: "127.0.0.1", port: directPort, allowHalfOpen: true });
        Object.assign(between, { near, far });
        for (const socket of [near, far]) socket.on("error", () => {});
        near.pipe(far);
        far.pipe(near);
      });
      cutter.listen(0, "127.0.0.1");
      await once(cutter, "listening");
      closers.push(() => cutter.close());
      let atApp: Socket | undefined;
      const hops = await start(
        (socket) => {
          atApp = socket;
          socket.resume();
          socket.write("hello");
        },
        { meshPort: (cutter.address() as AddressInfo).port },
      );
      directPort = hops.directPort;
      const client = dial(hops.port);
      client.write("hello");
      await once(client, "data");
      client.resume();
      await expect.poll(() => atApp?.bytesRead).toBe(5);
      const reader = side === "far" ? client : (atApp as Socket);
      let told = "";
      reader.on("end", () => {
        told = "an end";
      });
      reader.on("error", (error: NodeJS.ErrnoException) => {
        told ||= error.code ?? "";
      });
      // The one side's stream ends where the other's is made to: what was said before has arrived.
      if (side === "far") between.near?.end();
      else between.far?.end();
      await closed(reader);
      expect(told).toBe("ECONNRESET");
      await expect.poll(() => hops.client.connections.size + hops.server.connections.size).toBe(0);
    },
  );

  test("the client half-closes first, the server answers afterwards", async () => {
    const answer = Buffer.alloc(10 * 1024 * 1024, "z");
    const hops = await start((socket) => {
      let got = 0;
      socket.on("data", (chunk: Buffer) => {
        got += chunk.length;
      });
      socket.on("end", () => {
        socket.write(`${got}\n`);
        socket.end(answer);
      });
    });
    const socket = dial(hops.port);
    let bytes = 0;
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    socket.end(Buffer.alloc(1_000_000));
    await closed(socket);
    expect(bytes).toBe(answer.length + "1000000\n".length);
  });

  test("the server speaks first, and half-closes first", async () => {
    let rest = 0;
    let done: (value: unknown) => void = () => {};
    const all = new Promise((resolve) => {
      done = resolve;
    });
    const hops = await start((socket) => {
      socket.end("220 hello\r\n");
      socket.on("data", (chunk: Buffer) => {
        rest += chunk.length;
      });
      socket.on("end", done);
    });
    const socket = dial(hops.port);
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await new Promise((resolve) => socket.once("end", resolve));
    expect(seen).toBe("220 hello\r\n");
    socket.end(Buffer.alloc(2_000_000));
    await all;
    expect(rest).toBe(2_000_000);
  });

  test("a reset at one end is a reset at the other", async () => {
    let app: Socket | undefined;
    const hops = await start((socket) => {
      app = socket;
      socket.resume();
    });
    const socket = dial(hops.port);
    socket.write("x");
    await expect.poll(() => app !== undefined).toBe(true);
    app?.resetAndDestroy();
    await closed(socket);
    await expect.poll(() => hops.client.connections.size + hops.server.connections.size).toBe(0);
  });

  test("an application that is not there closes the connection", async () => {
    const hops = await Hops.start({ appPort: 1, opaque: true });
    closers.push(() => hops.close());
    const socket = dial(hops.port);
    socket.resume();
    await closed(socket);
  });

  test("a server that is somebody else hears nothing", async () => {
    let heard = 0;
    const app = createServer((socket) => {
      socket.on("data", (chunk) => {
        heard += chunk.length;
      });
      socket.on("error", () => {});
    });
    app.listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    const hops = await Hops.start({
      appPort: (app.address() as AddressInfo).port,
      opaque: true,
      identity: { kind: "dns", id: "other.ns.serviceaccount.identity.linkerd.cluster.local", serverName: SERVER_NAME },
    });
    closers.push(() => {
      hops.close();
      app.close();
    });
    const socket = dial(hops.port);
    socket.resume();
    socket.write("secret");
    await closed(socket);
    expect(heard).toBe(0);
  });

  test("bytes that are no HTTP are carried on a port with detection", async () => {
    const hops = await start((socket) => socket.pipe(socket), { opaque: false });
    const socket = dial(hops.port);
    socket.write("\x00\x01\x02\x03 this is not HTTP at all\r\n");
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString("latin1");
      socket.end();
    });
    await closed(socket);
    expect(seen).toContain("this is not HTTP");
  });
});
