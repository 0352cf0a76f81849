import { Agent, request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { haproxyFront, nginxFront } from "../support/backends.ts";
import { Hops } from "../support/hops.ts";
import { RawOrigin } from "../support/raw-origin.ts";
import { readResponse } from "../support/strict-response.ts";
import { until } from "../support/until.ts";
import { readVectors, type Vector } from "../support/vectors.ts";

/*
 * Every vector as a response of the application, through the running proxy: those that were written as responses, and
 * the requests about framing and fields said by a server. What the client hears parses in one way only; what is refused
 * is a 502 or is visibly cut; the next request gets its own answer over another connection.
 */

const AFTER = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter";

/** `F`: complete, `R`: 502 or cut, `N`: either. */
const asResponse: readonly Vector[] = [
  ...readVectors("http1-responses.md").map((vector) => ({
    ...vector,
    id: `response ${vector.id}`,
    expect: vector.expect === "C" ? "F" : vector.expect,
  })),
  ...readVectors("http1-requests.md").flatMap(({ id, expect, bytes }) => {
    const text = bytes.toString("latin1");
    const start = /^(?:POST|GET) \/ (HTTP\/1\.[01])\r\nHost: a\r\n/.exec(text);
    if (start === null) return [];
    const rest = text.slice(start[0].length);
    // A second Host is no matter here, and what follows a response is nobody's.
    if (/^host/i.test(rest) || rest.includes("smuggled")) return [];
    const said = `${start[1]} 200 OK\r\n${rest}`;
    return [{ id: `request ${id}`, expect: expect.slice(0, 1), bytes: Buffer.from(said, "latin1") }];
  }),
];

let origin: RawOrigin;
let hops: Hops;
let ports: Record<"straight" | "through both hops", number>;
beforeAll(async () => {
  origin = await RawOrigin.start(({ path, socket }) => {
    const [, index, at] = /^\/(\d+)\/(\d+)$/.exec(path)?.map(Number) ?? [];
    const bytes = asResponse[index ?? -1]?.bytes;
    if (bytes === undefined) return AFTER;
    socket.setNoDelay(true);
    if (at !== 0) socket.write(bytes.subarray(0, at));
    setTimeout(() => socket.end(bytes.subarray(at)), at === 0 ? 0 : 3);
    return undefined;
  });
  hops = await Hops.start({
    appPort: origin.port,
    inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
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

interface Heard {
  readonly first: string;
  readonly second: string | undefined;
  readonly broken: boolean;
}

// An unusable answer costs the connection between the hops as well; until there is a new one they answer for themselves.
const NOBODY_READY = /^HTTP\/1\.1 50[34] /;

async function ask(port: number, target: string): Promise<Heard> {
  for (let attempt = 0; ; attempt++) {
    const heard = await askOnce(port, target);
    if (attempt === 5 || !(NOBODY_READY.test(heard.first) || NOBODY_READY.test(heard.second ?? ""))) return heard;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** Asks for a vector, and for something else on the same connection if it is still there. */
async function askOnce(port: number, target: string): Promise<Heard> {
  const socket = connect(port, "127.0.0.1");
  let heard = "";
  let over = false;
  let broken = false;
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  socket.on("error", () => {
    broken = true;
  });
  socket.on("end", () => {
    over = true;
  });
  socket.on("close", () => {
    over = true;
  });
  socket.write(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`);
  const isWhole = () => {
    const response = readResponse(heard);
    return response !== undefined && response.end === "framed";
  };
  await until(() => over || isWhole(), `${target} has ended: ${heard.slice(0, 200)}`);
  const first = heard;
  if (over) return { first, second: undefined, broken };
  heard = "";
  socket.write("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => over || heard.endsWith("after"), `the request after ${target} is answered`);
  socket.destroy();
  return { first, second: heard, broken };
}

function judge(vector: Vector, { first, second, broken }: Heard): string | undefined {
  const { id, expect: wanted } = vector;
  const say = (what: string) => `${id} ${wanted}: ${what}: ${JSON.stringify(first.slice(0, 160))}`;
  let response: ReturnType<typeof readResponse>;
  try {
    response = readResponse(first);
  } catch (error) {
    return say((error as Error).message);
  }
  if (first.includes("smuggled")) return say("smuggled");
  // On a machine that starves us the next hop may be out of reach for a moment: that is our own answer, too.
  const isOurs = response !== undefined && response.status > 502 && /^l5d-proxy-error:/im.test(first);
  const refused =
    response === undefined ||
    response.status === 502 ||
    isOurs ||
    response.end === "cut" ||
    (response.end === "close" && broken);
  if (wanted === "R" && !refused) return say("taken");
  if (wanted === "F" && refused) return say("refused");
  if (second !== undefined && second !== "" && readResponse(second)?.content !== "after") return say(`then ${second}`);
  return undefined;
}

describe.each(["straight", "through both hops"] as const)("%s", (road) => {
  test("there are many", () => expect(asResponse.length).toBeGreaterThan(180));

  const every = road === "straight" ? 11 : 61;
  test.each<[string, (vector: Vector) => number[]]>([
    ["in one piece", () => [0]],
    [
      "split in two segments",
      ({ bytes: { length } }) =>
        Array.from({ length: Math.min(length, 300) }, (_, i) => i).filter((at) => at > 0 && at % every === 0),
    ],
  ])("%s", async (_name, offsets) => {
    const wrong: string[] = [];
    const queue = asResponse.flatMap((vector, i) => offsets(vector).map((at) => ({ vector, i, at })));
    const worker = async () => {
      for (let one = queue.pop(); one !== undefined; one = queue.pop()) {
        const fault = judge(one.vector, await ask(ports[road], `/${one.i}/${one.at}`));
        if (fault !== undefined) wrong.push(`at ${one.at}: ${fault}`);
      }
    };
    await Promise.all(Array.from({ length: road === "straight" ? 24 : 8 }, worker));
    expect(wrong).toEqual([]);
  });
});

/*
 * The same responses, behind us, for three readers that others wrote: whatever each makes of one, the answer to its next
 * request is that request's. What a reader refuses beyond what we do is its own affair.
 */
// Interim responses that nobody asked for: nginx 1.22 takes the first for the answer, and what follows for its content, whose end
// it awaits for three seconds. All at once, then.
const AWAITED_BY: Readonly<Record<string, readonly string[]>> = {
  nginx: ["B07", "B09", "B10", "B11"].map((id) => `response ${id}`),
};

describe.each(["straight", "through both hops"] as const)("what other readers make of it, %s", (road) => {
  test.each([
    ["nginx", nginxFront],
    ["haproxy", haproxyFront],
  ] as const)("%s", async (name, make) => {
    const front = await make(ports[road]);
    const wrong: string[] = [];
    let compared = 0;
    try {
      const compare = async (vector: Vector) => {
        compared++;
        const i = asResponse.indexOf(vector);
        const heard = await ask(front.port, `/${i}/0`);
        const fault = judge({ ...vector, expect: "N" }, heard);
        if (fault !== undefined) wrong.push(fault);
        // Over another connection of the client's, and maybe the same one of the reader's.
        const next = await ask(front.port, "/after");
        if (readResponse(next.first)?.content !== "after") wrong.push(`${vector.id}: then ${next.first.slice(0, 160)}`);
      };
      const awaited = asResponse.filter(({ id }) => AWAITED_BY[name]?.includes(id));
      for (const vector of asResponse) if (!awaited.includes(vector)) await compare(vector);
      await Promise.all(awaited.map(compare));
    } finally {
      await front.stop();
    }
    expect(wrong).toEqual([]);
    expect(compared).toBe(asResponse.length);
  });

  test("node", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const get = (path: string) =>
      new Promise<string>((resolve) => {
        const req = request({ host: "127.0.0.1", port: ports[road], path, agent }, (res) => {
          let content = "";
          res.on("data", (chunk: Buffer) => {
            content += chunk.toString("latin1");
          });
          res.on("error", () => {});
          res.on("close", () => resolve(`${res.statusCode} ${content}`));
        });
        req.on("error", (error) => resolve(error.message));
        req.end();
      });
    const wrong: string[] = [];
    for (const [i, { id }] of asResponse.entries()) {
      await get(`/${i}/0`);
      // The one that finds the connection closed is asked again, as any client would.
      let next = "";
      for (let attempt = 0; attempt < 5 && next !== "200 after"; attempt++) {
        if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, 300));
        next = await get("/after");
        if (/^200 /.test(next) && next !== "200 after") break;
      }
      if (next !== "200 after") wrong.push(`${id}: then ${next}`);
    }
    agent.destroy();
    expect(wrong).toEqual([]);
  });
});
