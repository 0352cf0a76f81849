import type { Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { SocketWriter } from "../../../src/proxy/transport/writer.ts";
import { socketPair } from "../../support/socket-pair.ts";
import { until } from "../../support/until.ts";

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

const METER = { read() {}, wrote() {}, closed() {}, refused() {} };
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A writer whose peer does not read yet, and how often it said that everything was taken. */
async function pair() {
  const { ours, theirs } = await socketPair();
  open.push(ours, theirs);
  let taken = 0;
  const writer = new SocketWriter(ours, METER, () => {
    taken++;
  });
  return { writer, ours, theirs, taken: () => taken };
}

/** Writes until the kernel takes no more. */
async function fill(writer: SocketWriter): Promise<void> {
  while (writer.pendingBytes === 0) {
    writer.append(Buffer.alloc(60_000));
    await turn();
  }
}

describe("what is watched", () => {
  test("is said to be taken at the end of the turn in which the kernel took it, once", async () => {
    const { writer, taken } = await pair();
    for (const size of [100, 60_000]) {
      const before = taken();
      writer.append(Buffer.alloc(size));
      writer.watch();
      expect(taken()).toBe(before);
      writer.flush();
      expect(taken()).toBe(before + 1);
      await turn();
      await turn();
      expect(taken()).toBe(before + 1);
    }
  });

  test.each([100, 20_000, 60_000, 200_000])(
    "is not said to be taken while the peer does not read: %i bytes",
    async (size) => {
      const { writer, ours, theirs, taken } = await pair();
      await fill(writer);
      let drained = 0;
      ours.on("drain", () => drained++);
      writer.append(Buffer.alloc(size));
      writer.watch();
      for (let i = 0; i < 20; i++) await turn();
      expect(taken()).toBe(0);
      theirs.resume();
      await until(() => taken() + drained > 0, "it is taken");
      expect(writer.pendingBytes).toBe(0);
    },
  );

  test("is told of also if nothing was written since", async () => {
    const { writer, theirs, taken } = await pair();
    await fill(writer);
    await turn();
    writer.watch();
    for (let i = 0; i < 20; i++) await turn();
    expect(taken()).toBe(0);
    theirs.resume();
    await until(() => taken() > 0, "it is taken");
  });

  test("is nobody's business once the socket is gone", async () => {
    const { writer, ours, taken } = await pair();
    await fill(writer);
    writer.append(Buffer.alloc(100));
    writer.watch();
    ours.destroy();
    await turn();
    await turn();
    writer.append(Buffer.alloc(100));
    writer.watch();
    await turn();
    expect(taken()).toBe(0);
  });

  test("what nobody watches is not told of", async () => {
    const { writer, taken } = await pair();
    writer.append(Buffer.alloc(60_000));
    await turn();
    await turn();
    expect(taken()).toBe(0);
  });
});
