import { once } from "node:events";
import type { Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { DirectWrite } from "../../../src/proxy/transport/direct-write.ts";
import { socketPair } from "../../support/socket-pair.ts";

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

/** Both ends of a connection, and how to write to ours; nobody reads at the other one yet. */
async function pair(): Promise<{ ours: Socket; theirs: Socket; direct: DirectWrite }> {
  const { ours, theirs } = await socketPair();
  open.push(ours, theirs);
  const direct = DirectWrite.of(ours);
  if (direct === undefined) throw new Error("this Node writes through streams only");
  return { ours, theirs, direct };
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.resume();
  await once(socket, "end");
  return Buffer.concat(chunks);
}

/** Writes blocks of one letter each until the kernel takes no more. @returns what was given away. */
function fill(direct: DirectWrite): string {
  let written = "";
  for (let i = 0; i < 10_000 && direct.pendingBytes === 0; i++) {
    const block = String.fromCharCode(97 + (i % 26)).repeat(64 * 1024);
    expect(direct.write(Buffer.from(block))).toBe(true);
    written += block;
  }
  return written;
}

test("what the kernel does not take arrives in order, before what the stream writes later", async () => {
  const { ours, theirs, direct } = await pair();
  const first = fill(direct);
  expect(direct.pendingBytes).toBeGreaterThan(0);
  expect(direct.write(Buffer.from("refused"))).toBe(false);
  ours.end("THE END");
  expect((await readAll(theirs)).toString()).toBe(`${first}THE END`);
});

test("says drain once the kernel has taken everything, and writes again", async () => {
  const { ours, theirs, direct } = await pair();
  fill(direct);
  const received = readAll(theirs);
  await once(ours, "drain");
  expect(direct.pendingBytes).toBe(0);
  expect(direct.write(Buffer.from("MORE"))).toBe(true);
  ours.end();
  expect((await received).toString().endsWith("MORE")).toBe(true);
});

test("a peer that resets while bytes wait is an error with its code", async () => {
  const { ours, theirs, direct } = await pair();
  fill(direct);
  const error = once(ours, "error") as Promise<[NodeJS.ErrnoException]>;
  theirs.resetAndDestroy();
  const [{ code }] = await error;
  expect(["ECONNRESET", "EPIPE"]).toContain(code);
});

test("destroying the socket while bytes wait is no error", async () => {
  const { ours, direct } = await pair();
  fill(direct);
  const errors: Error[] = [];
  ours.on("error", (error) => errors.push(error));
  ours.destroy();
  await once(ours, "close");
  expect(errors).toEqual([]);
  expect(direct.write(Buffer.from("late"))).toBe(false);
});

test("stays behind what waits in the stream", async () => {
  const { ours, theirs, direct } = await pair();
  ours.cork();
  ours.write("first ");
  expect(direct.write(Buffer.from("second"))).toBe(false);
  ours.uncork();
  ours.end("second");
  expect((await readAll(theirs)).toString()).toBe("first second");
});
