/**
 * Requests that an endpoint did not begin with (RFC 9113 §6.8, §8.7): reset as refused, or above the last stream of its
 * GOAWAY. Nothing was done for them, so they go out once more, with what they have said so far.
 */
import { type ClientHttp2Session, connect } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { PREFACE } from "../../../src/proxy/wire/http2/index.ts";
import { Hops } from "../../support/hops.ts";
import { END_HEADERS, END_STREAM, frame, OK } from "../../support/http2.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0).reverse()) each.close();
});

type Frame = { readonly type: number; readonly flags: number; readonly id: number; readonly payload: Buffer };

/** Speaks HTTP/2 by hand: `refuse` says how the first `refusals` connections end a request, the rest echo it. */
class Refusing {
  readonly server: Server;
  connections = 0;
  readonly #refusals: number;
  readonly #refuse: (socket: Socket, id: number) => void;

  constructor(refusals: number, refuse: (socket: Socket, id: number) => void) {
    this.#refusals = refusals;
    this.#refuse = refuse;
    this.server = createServer((socket) => this.#serve(socket, ++this.connections));
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => this.server.close() });
    return (this.server.address() as AddressInfo).port;
  }

  #serve(socket: Socket, connection: number): void {
    open.push({ close: () => socket.destroy() });
    socket.on("error", () => {});
    socket.write(Buffer.concat([frame.settings(), frame.settingsAck(), frame.windowUpdate(0, 1_000_000)]));
    let bytes = Buffer.alloc(0);
    const bodies = new Map<number, Buffer[]>();
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.indexOf(PREFACE) === 0) bytes = bytes.subarray(PREFACE.length);
      for (let next = take(); next !== undefined; next = take()) this.#frame(socket, connection, next, bodies);
    });
    const take = (): Frame | undefined => {
      const length = bytes.length < 9 ? Number.POSITIVE_INFINITY : bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) return undefined;
      const payload = bytes.subarray(9, 9 + length);
      const found = { type: bytes[3] as number, flags: bytes[4] as number, id: bytes.readUInt32BE(5), payload };
      bytes = bytes.subarray(9 + length);
      return found;
    };
  }

  #frame(socket: Socket, connection: number, { type, flags, id, payload }: Frame, bodies: Map<number, Buffer[]>): void {
    if (type === 1) bodies.set(id, []);
    const body = bodies.get(id);
    if (body === undefined) return;
    if (type === 0) body.push(Buffer.from(payload));
    if ((flags & END_STREAM) === 0) return;
    bodies.delete(id);
    if (connection <= this.#refusals) return this.#refuse(socket, id);
    const answer = Buffer.concat(body);
    socket.write(Buffer.concat([frame.headers(id, OK, END_HEADERS), frame.data(id, answer, END_STREAM)]));
  }
}

const goAway = (socket: Socket) => socket.end(frame.goaway(0, 0));
const reset = (socket: Socket, id: number) =>
  void socket.write(Buffer.concat([frame.reset(id, 7), frame.goaway(id, 0)]));

interface Heard {
  readonly status: number | undefined;
  readonly body: string;
  readonly code: number;
}

function post(session: ClientHttp2Session, body: Buffer): Promise<Heard> {
  const stream = session.request({ ":method": "POST", ":path": "/", ":authority": "a" });
  let status: number | undefined;
  const chunks: Buffer[] = [];
  stream.on("error", () => {});
  stream.on("response", (head) => {
    status = head[":status"];
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.end(body);
  return new Promise((resolve) =>
    stream.on("close", () => resolve({ status, body: Buffer.concat(chunks).toString(), code: stream.rstCode ?? 0 })),
  );
}

async function site(app: Refusing): Promise<ClientHttp2Session> {
  const hops = await Hops.start({ appPort: await app.listen() });
  const session = connect(`http://127.0.0.1:${hops.port}`);
  session.on("error", () => {});
  open.push(hops, { close: () => session.destroy() });
  return session;
}

describe.each([
  ["above the last stream of a GOAWAY", goAway],
  ["reset as refused", reset],
])("a request %s", (_name, refuse) => {
  test.each([0, 5, 16_384])("of %i bytes is sent once more, whole", async (size) => {
    const app = new Refusing(1, refuse);
    const body = Buffer.alloc(size, "abcdefg");
    expect(await post(await site(app), body)).toEqual({ status: 200, body: body.toString(), code: 0 });
    expect(app.connections).toBe(2);
  });

  test("of more than is kept is told the client, who may send it again", async () => {
    const app = new Refusing(1, refuse);
    const session = await site(app);
    expect(await post(session, Buffer.alloc(16_385))).toMatchObject({ status: undefined, code: 7 });
    expect(app.connections).toBe(1);
  });

  test("is not sent for ever", async () => {
    const app = new Refusing(Number.POSITIVE_INFINITY, refuse);
    // A peer that takes connections only to end them is not dialled in a loop: fail-fast comes first.
    expect(await post(await site(app), Buffer.from("again"))).toMatchObject({ status: 504 });
    expect(app.connections).toBeLessThanOrEqual(5);
  });
});
