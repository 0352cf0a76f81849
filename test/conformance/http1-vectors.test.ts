import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy, type InboundPolicy } from "../../src/proxy/policy/index.ts";
import { Hops } from "../support/hops.ts";
import { ANSWERED, StrictOrigin } from "../support/strict-origin.ts";
import { until } from "../support/until.ts";
import { readVectors, type Vector } from "../support/vectors.ts";

/*
 * Every vector through the running proxy, in every variant: in one piece, split in two segments at every offset, behind
 * another request on a connection that is kept; straight to the application (HTTP/1 to HTTP/1) and through both hops
 * (HTTP/1 carried in HTTP/2). The application reads by the grammar alone.
 */

const vectors = readVectors("http1-requests.md");
const DETECT = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] });
if (DETECT.protocol.kind !== "detect") throw new Error("expected a policy that detects");
const PINNED: InboundPolicy = { ...DETECT, protocol: { ...DETECT.protocol, kind: "http1" } };

const FIRST = Buffer.from("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
// As many connections as keep both cores busy.
const AT_ONCE = 48;

let origin: StrictOrigin;
let hops: Hops;
let ports: Record<"straight" | "through both hops", number>;
beforeAll(async () => {
  origin = await StrictOrigin.start();
  hops = await Hops.start({
    appPort: origin.port,
    inboundPolicy: PINNED,
    detectTimeoutMs: 60_000,
    policy: (policy) => ({ ...policy, kind: "http1" }),
  });
  ports = {
    straight: await hops.server.listenIntercepted({ ip: "127.0.0.1", port: origin.port }),
    "through both hops": hops.port,
  };
});
afterAll(() => {
  hops.close();
  origin.close();
});

/** Long enough for the proxy, which runs in this process, to read what was written. */
async function seen(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** One connection: a request before, if wanted, then the pieces, each read by itself; the answers of the application. */
async function ask(port: number, pieces: readonly Buffer[], before: boolean): Promise<string> {
  const socket: Socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
  let heard = "";
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  socket.on("end", () => socket.end());
  await once(socket, "connect").catch(() => {});
  const closed = new Promise((resolve) => socket.once("close", resolve));
  if (before) {
    socket.write(FIRST);
    await until(() => heard.includes("\r\n\r\n") || socket.destroyed, "the request before is answered");
    heard = "";
  }
  for (const piece of pieces.slice(0, -1)) {
    if (!socket.destroyed) socket.write(piece);
    await seen();
  }
  if (!socket.destroyed) socket.end(pieces.at(-1) as Buffer);
  await closed;
  return heard;
}

/** Every offset of a short vector; of a long one those near its ends and a few between. */
function offsets(length: number, every: number): number[] {
  const all = Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1);
  const some = length <= 400 ? all : all.filter((at) => at < 60 || at > length - 20 || at % 29_989 === 0);
  return some.filter((at) => at % every === 0);
}

interface Case {
  readonly vector: Vector;
  readonly pieces: readonly Buffer[];
  readonly before: boolean;
  readonly what: string;
}

const whole = (before: boolean): Case[] =>
  vectors.map((vector) => ({ vector, pieces: [vector.bytes], before, what: "whole" }));
const split = (before: boolean, every: number): Case[] =>
  vectors.flatMap((vector) =>
    offsets(vector.bytes.length, every).map((at) => ({
      vector,
      pieces: [vector.bytes.subarray(0, at), vector.bytes.subarray(at)],
      before,
      what: `split at ${at}`,
    })),
  );

describe.each(["straight", "through both hops"] as const)("%s", (road) => {
  test.each<[string, () => Case[]]>([
    ["in one piece", () => whole(false)],
    ["as second request on a kept connection", () => whole(true)],
    // The machines are fed every offset of the second request in unit/proxy/wire/http1/vectors.test.ts.
    ["as second request, split in two segments", () => split(true, 17)],
    ["split in two segments at every offset", () => split(false, road === "straight" ? 1 : 5)],
  ])("%s", async (_name, make) => {
    const cases = make();
    const requestsBefore = origin.requests.length;
    let answered = 0;
    const wrong: string[] = [];
    const worker = async () => {
      for (let one = cases.pop(); one !== undefined; one = cases.pop()) {
        const { vector, pieces, before, what } = one;
        const heard = await ask(ports[road], pieces, before);
        const count = heard.split(ANSWERED).length - 1;
        answered += count + (before ? 1 : 0);
        const expected = vector.expect === "R" ? [0] : vector.expect === "N" ? [0, 1] : [Number(vector.expect[1])];
        if (!expected.includes(count))
          wrong.push(`${vector.id} ${vector.expect} ${what}: ${count} answered: ${heard.slice(0, 80)}`);
        // A refusal is a 4xx, or nothing at all.
        if (count === 0 && heard !== "" && !/^(?:HTTP\/1\.1 100 Continue\r\n\r\n)?HTTP\/1\.[01] [45]\d\d /.test(heard))
          wrong.push(`${vector.id} ${what}: refused with ${JSON.stringify(heard.slice(0, 80))}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    expect(wrong).toEqual([]);
    expect(origin.faults).toEqual([]);
    // As many as the proxy answered, and none that was hidden in another.
    await until(() => origin.requests.length - requestsBefore >= answered, "the origin has read them");
    expect(origin.requests.length - requestsBefore).toBe(answered);
    expect(origin.requests.filter(({ target }) => target.includes("smuggled"))).toEqual([]);
  });
});

describe("what reaches the application", () => {
  test.each(["straight", "through both hops"] as const)("%s", async (road) => {
    const reached = async (id: string) => {
      const vector = vectors.find((one) => one.id === id) as Vector;
      const before = origin.requests.length;
      await ask(ports[road], [vector.bytes], false);
      const request = origin.requests[before];
      if (request === undefined) throw new Error(`${id} did not arrive`);
      const names = request.fields.map(([name]) => name);
      // What our own inbound hop says of the other one.
      const own = road === "straight" ? [] : ["l5d-client-id"];
      return { ...request, names: names.filter((name) => !own.includes(name)) };
    };
    expect((await reached("P03")).names).not.toContain("x-auth");
    expect((await reached("P08")).fields).toContainEqual(["te", "trailers"]);
    expect((await reached("P12")).names).toEqual(["host"]);
    expect((await reached("P11")).names).toEqual(["host"]);
    expect((await reached("L30")).names).toEqual(["host"]);
    expect((await reached("P27")).names).toEqual(["host"]);
    expect((await reached("P14")).names).toEqual(["host"]);
    // One authority for routing and application.
    const absolute = await reached("L19");
    expect(absolute.fields.filter(([name]) => name === "host")).toEqual([["host", "b"]]);
    expect(["/x", "http://b/x"]).toContain(absolute.target);
    expect((await reached("S27")).content).toBe("hello");
    expect((await reached("S27")).names.filter((name) => name.includes("_len"))).toEqual([]);
    expect((await reached("S34")).content).toBe("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    expect((await reached("P06")).fields).toContainEqual(["expect", "100-continue"]);
  });
});
