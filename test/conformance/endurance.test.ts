import { type ChildProcess, spawn } from "node:child_process";
import { createHash, type Hash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { slope } from "../support/slope.ts";

/*
 * Bytes in masses, and for long. `SOAK=1` is what hardening asks for once, by hand: a minute at full rate, then an hour.
 */

const SOAK = process.env["SOAK"] === "1";
const BULK_SECONDS = SOAK ? 60 : 5;
const BULK_BYTES_PER_SECOND = 100_000_000;
const LASTING_MINUTES = SOAK ? Number(process.env["SOAK_MINUTES"] ?? 60) : 0.1;
const LASTING_CONNECTIONS = 50;
const LASTING_BYTES_PER_SECOND = 100_000;
const TICK_MS = 20;
const MB = 1_000_000;

let app: Server;
let hops: ChildProcess;
let port = 0;
let complaints = "";

/** Hashes what it hears; the client's FIN is answered with the hash, then everything ends. */
function listen(socket: Socket): void {
  const hash = createHash("sha256");
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => hash.update(chunk));
  socket.on("end", () => socket.end(hash.digest("hex")));
}

beforeAll(async () => {
  app = createServer({ allowHalfOpen: true }, listen);
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  const script = new URL("../support/hop-process.ts", import.meta.url).pathname;
  hops = spawn(process.execPath, [script, String((app.address() as AddressInfo).port), "relay"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  hops.stderr?.on("data", (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  const [line] = (await once(createInterface({ input: hops.stdout as NodeJS.ReadableStream }), "line")) as [string];
  port = Number(line);
});
afterAll(() => {
  hops.kill();
  app.close();
});

/** One client that sends at a rate and knows the hash of what it sent. */
class Sender {
  readonly #socket: Socket;
  readonly #hash: Hash = createHash("sha256");
  readonly #block: Buffer;
  readonly #bytesPerSecond: number;
  sent = 0;

  private constructor(socket: Socket, bytesPerSecond: number) {
    this.#socket = socket;
    this.#bytesPerSecond = bytesPerSecond;
    this.#block = Buffer.alloc(Math.min(65_536, Math.ceil((bytesPerSecond * TICK_MS) / 1_000)));
    randomFillSync(this.#block);
  }

  static async dial(bytesPerSecond: number): Promise<Sender> {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    await once(socket, "connect");
    return new Sender(socket, bytesPerSecond);
  }

  /** Sends until this much time is over, as fast as the rate says and the socket takes. */
  async send(seconds: number): Promise<void> {
    const began = performance.now();
    for (let now = began; now - began < seconds * 1_000; now = performance.now()) {
      // Behind the rate, what was missed is not sent in one go.
      const due = Math.min(((now - began) / 1_000) * this.#bytesPerSecond, this.sent + this.#bytesPerSecond / 4);
      while (this.sent < due) {
        this.#block.writeUInt32LE(this.sent >>> 0, 0);
        const block = Buffer.from(this.#block);
        this.#hash.update(block);
        this.sent += block.length;
        if (!this.#socket.write(block)) await once(this.#socket, "drain");
      }
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }

  /** Ends, and compares what the application heard with what was said. */
  async finish(): Promise<void> {
    const heard: Buffer[] = [];
    this.#socket.on("data", (chunk: Buffer) => heard.push(chunk));
    this.#socket.end();
    await once(this.#socket, "end");
    expect(Buffer.concat(heard).toString()).toBe(this.#hash.digest("hex"));
  }
}

interface Sample {
  readonly atMinutes: number;
  readonly mb: number;
}

/** Resident memory of both hops while something goes on, in MB. */
async function watched(during: Promise<unknown>, everyMs: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  const began = performance.now();
  const take = () => {
    const status = readFileSync(`/proc/${hops.pid}/status`, "utf8");
    const mb = (Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1_024) / MB;
    samples.push({ atMinutes: (performance.now() - began) / 60_000, mb });
  };
  const timer = setInterval(take, everyMs);
  take();
  await during.finally(() => clearInterval(timer));
  take();
  return samples;
}

describe("opaque bytes through both hops (W11)", () => {
  test("100 MB/s arrive as they were sent, and memory stays", { timeout: (BULK_SECONDS + 60) * 1_000 }, async () => {
    const sender = await Sender.dial(BULK_BYTES_PER_SECOND);
    const samples = await watched(sender.send(BULK_SECONDS), 500);
    await sender.finish();
    const middle = samples.length >> 1;
    const highest = (some: readonly Sample[]) => Math.max(...some.map(({ mb }) => mb));
    const grown = highest(samples.slice(middle)) - highest(samples.slice(0, middle));
    const rate = sender.sent / BULK_SECONDS / MB;
    console.info(
      `${rate.toFixed(0)} MB/s for ${BULK_SECONDS} s, ${grown.toFixed(1)} MB more at most in the second half`,
    );
    // What a machine that is busy otherwise carries is its own affair; the bytes and the memory are not.
    expect(sender.sent).toBeGreaterThan(10 * MB);
    expect(grown).toBeLessThan(32);
    expect(complaints).toBe("");
  });

  test("fifty connections for as long as one likes: whole, and memory on a plateau", {
    timeout: (LASTING_MINUTES + 2) * 60_000,
  }, async () => {
    const senders = await Promise.all(
      Array.from({ length: LASTING_CONNECTIONS }, () => Sender.dial(LASTING_BYTES_PER_SECOND)),
    );
    const sending = Promise.all(senders.map((sender) => sender.send(LASTING_MINUTES * 60)));
    const samples = await watched(sending, SOAK ? 10_000 : 200);
    for (const sender of senders) await sender.finish();
    const last = samples.filter(({ atMinutes }) => atMinutes > LASTING_MINUTES - Math.min(10, LASTING_MINUTES / 2));
    const perMinute = slope(
      last,
      ({ atMinutes }) => atMinutes,
      ({ mb }) => mb,
    );
    const bytes = senders.reduce((sum, { sent }) => sum + sent, 0);
    console.info(
      `${LASTING_MINUTES} min, ${(bytes / MB).toFixed(0)} MB, ${perMinute.toFixed(2)} MB/min at the end, ` +
        `${(samples[0] as Sample).mb.toFixed(0)} → ${(samples.at(-1) as Sample).mb.toFixed(0)} MB`,
    );
    // Of seconds, a slope says nothing.
    if (LASTING_MINUTES > 5) expect(perMinute).toBeLessThan(1);
    else expect(Math.max(...last.map(({ mb }) => mb)) - (last[0] as Sample).mb).toBeLessThan(32);
    expect(complaints).toBe("");
  });
});
