import { describe, expect, it } from "vitest";
import { HeaderList, headerName } from "../../../../src/proxy/core/header.ts";
import { latin1, ServerRecorder } from "../../../support/http1.ts";
import { type Fields, frame, GET, openServer } from "../../../support/http2.ts";

const NAMES = 10_000;
const PER_HEAD = 90;
const ROUNDS = 5;

/**
 * Numbers whose hashes V8 takes from the number itself, without its seed, and which agree in their low bits: what a
 * table of any usual size puts into one bucket (CVE-2026-21717).
 */
const colliding = Array.from({ length: NAMES }, (_, i) => String((i * 1024) % 16_777_216));

/** Numbers likewise, which neither side remembers as names, and whose low bits differ. */
let seed = 7;
const random = Array.from({ length: NAMES }, () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
  return String(seed % 16_777_216);
});

/** CPU time of each, in turns, the best of some: whoever shares the machine only makes it longer. */
function cpuOf(run: (names: readonly string[]) => void): { readonly colliding: number; readonly random: number } {
  const figures = { colliding: [] as number[], random: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [which, names] of [
      ["colliding", colliding],
      ["random", random],
    ] as const) {
      const before = process.threadCpuUsage();
      run(names);
      const { user, system } = process.threadCpuUsage(before);
      figures[which].push(user + system);
    }
  }
  return { colliding: Math.min(...figures.colliding), random: Math.min(...figures.random) };
}

const heads = (names: readonly string[]): string[][] =>
  Array.from({ length: Math.ceil(names.length / PER_HEAD) }, (_, i) => names.slice(i * PER_HEAD, (i + 1) * PER_HEAD));

describe("ten thousand names that collide cost no more than twice what others do", () => {
  it.each([
    [
      "looked up, and put into a list",
      (names: readonly string[]) => {
        for (const some of heads(names)) {
          const list = new HeaderList();
          // As a reader cuts them out of a head: a string that V8 has not hashed yet.
          for (const name of some) {
            const found = headerName(Buffer.from(name, "latin1").toString("latin1"));
            if (found !== undefined) list.add(found, "v");
          }
          for (let i = 0; i < list.length; i++) list.get(list.names[i] as never);
        }
      },
    ],
    [
      "in heads of HTTP/1",
      (names: readonly string[]) => {
        for (const some of heads(names)) {
          const server = new ServerRecorder();
          server.machine.receive(
            latin1(`GET / HTTP/1.1\r\nHost: a\r\n${some.map((name) => `${name}: v\r\n`).join("")}\r\n`),
            0,
          );
          if (server.head === undefined) throw new Error("the head was refused");
        }
      },
    ],
    [
      "in blocks of HTTP/2",
      (names: readonly string[]) => {
        for (const some of heads(names)) {
          const fields: Fields = [...GET, ...some.map((name) => [name, "v"] as const)];
          const side = openServer();
          side.receive(frame.headers(1, fields));
          if (side.recorder.take().length === 0) throw new Error("the block was refused");
        }
      },
    ],
  ])("%s", { timeout: 60_000 }, (_where, run) => {
    for (const names of [colliding, random]) run(names);
    const cpu = cpuOf(run);
    console.log(`colliding ${cpu.colliding} µs, random ${cpu.random} µs`);
    expect(cpu.colliding).toBeLessThan(cpu.random * 2);
  });
});
