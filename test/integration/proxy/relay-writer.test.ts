import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { RelayWriter } from "../../../src/proxy/transport/relay-writer.ts";
import { Hops } from "../../support/hops.ts";
import { seededRng } from "../../support/rng.ts";
import { socketPair } from "../../support/socket-pair.ts";

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.toReversed()) close();
  closers = [];
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Bytes of which no two places look alike, the same for a seed. */
function noise(seed: number, length: number): Buffer {
  const rng = seededRng(seed);
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(Math.floor(rng() * 2 ** 32), Math.min(at, length - 4));
  return bytes;
}

/** Sends in pieces from one byte to several reads of the proxy's, as fast as they are taken, and then a FIN. */
async function send(socket: Socket, bytes: Buffer, seed: number): Promise<void> {
  const rng = seededRng(seed);
  for (let at = 0; at < bytes.length; ) {
    const size = Math.ceil(2 ** (rng() * 18));
    if (!socket.write(bytes.subarray(at, at + size))) await once(socket, "drain");
    else if (size < 64) await turn();
    at += size;
  }
  socket.end();
}

/** Reads to the end and stops now and then, until everything on the way is full. */
async function receive(socket: Socket, seed: number): Promise<string> {
  const rng = seededRng(seed);
  const hash = createHash("sha256");
  socket.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    if (rng() > 0.05) return;
    socket.pause();
    setTimeout(() => socket.resume(), 5);
  });
  await once(socket, "end");
  return hash.digest("hex");
}

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

test("both ways at once, in pieces of any size and with readers that stop, every byte arrives as it was", async () => {
  const [question, answer] = [noise(1, 12_000_001), noise(2, 15_000_003)];
  let heard: Promise<string> | undefined;
  const app = createServer({ allowHalfOpen: true }, (socket) => {
    heard = receive(socket, 3);
    void send(socket, answer, 4);
  });
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  closers.push(() => app.close());
  const hops = await Hops.start({ appPort: (app.address() as AddressInfo).port, opaque: true });
  closers.push(() => hops.close());
  const socket = connect({ host: "127.0.0.1", port: hops.port, allowHalfOpen: true });
  closers.push(() => socket.destroy());
  const [got] = await Promise.all([receive(socket, 5), send(socket, question, 6)]);
  expect(got).toBe(sha256(answer));
  expect(await heard).toBe(sha256(question));
}, 60_000);

describe("a RelayWriter", () => {
  async function pair(): Promise<{ ours: Socket; theirs: Socket; writer: RelayWriter }> {
    const { ours, theirs } = await socketPair();
    closers.push(() => ours.destroy());
    closers.push(() => theirs.destroy());
    return { ours, theirs, writer: new RelayWriter(ours) };
  }

  test("needs the memory of a chunk only during the call, also while the kernel takes nothing", async () => {
    const { ours, theirs, writer } = await pair();
    const sent = createHash("sha256");
    const chunk = Buffer.alloc(16 * 1024);
    let isFull = false;
    for (let i = 0; i < 2_000 && !isFull; i++) {
      noise(i, chunk.length).copy(chunk);
      sent.update(chunk);
      isFull = !writer.write(chunk);
      chunk.fill(0);
      if (i % 7 === 0) await turn();
    }
    expect(isFull).toBe(true);
    // What a careless reader hands over all the same.
    chunk.fill("x", 0, 100);
    writer.write(chunk.subarray(0, 100));
    sent.update("x".repeat(100));
    chunk.fill(0);
    const received = receive(theirs, 1);
    await once(ours, "drain");
    writer.end();
    expect(await received).toBe(sent.digest("hex"));
  });

  test("gathers what one turn brings", async () => {
    const { theirs, writer } = await pair();
    const reads: number[] = [];
    theirs.on("data", (chunk: Buffer) => reads.push(chunk.length));
    for (let i = 0; i < 3; i++) writer.write(Buffer.alloc(10_000, "x"));
    while (reads.length === 0) await turn();
    expect(reads[0]).toBe(30_000);
  });

  test("small chunks that wait behind a stalled peer do not keep a block each", async () => {
    const { writer } = await pair();
    while (writer.write(Buffer.alloc(64 * 1024))) await turn();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1_000; i++) {
      writer.write(Buffer.from("x"));
      writer.flush();
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024);
  });
});
