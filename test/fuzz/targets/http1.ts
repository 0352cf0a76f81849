import {
  ClientRecorder,
  headers,
  latin1,
  lend,
  Relay,
  requestHead,
  responseHead,
  ServerRecorder,
} from "../../support/http1.ts";
import { readStrictly } from "../../support/strict-http1.ts";
import { readVectors } from "../../support/vectors.ts";
import type { FuzzTarget } from "../harness.ts";

const COVERS = "src/proxy/wire/http1/";
const DICTIONARY = [
  "\r\n",
  "\r\n\r\n",
  "\n",
  "Host: a\r\n",
  "Content-Length: 5\r\n",
  "Content-Length: 0\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Connection: close\r\n",
  "Connection: keep-alive, X\r\n",
  "Upgrade: h2c\r\n",
  "Expect: 100-continue\r\n",
  "TE: trailers\r\n",
  "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  "HEAD ",
  "CONNECT a:1 HTTP/1.1\r\n",
  " HTTP/1.0",
  "0\r\n\r\n",
  "5\r\nhello\r\n",
  ";x=y",
  "chunked, ",
  "\u00ff",
].map(latin1);

function short(name: string): Buffer[] {
  return readVectors(name)
    .map((vector) => vector.bytes)
    .filter((bytes) => bytes.length < 2000);
}

/** A machine has failed properly, or not at all. */
function judge(recorder: ServerRecorder | ClientRecorder): void {
  const { error, events } = recorder;
  if (error !== undefined && (error.side !== "remote" || !events.at(-1)?.startsWith("error"))) {
    throw new Error("an error of ours, or not the last thing reported", { cause: error });
  }
  if (events.some((event) => !event.startsWith("data") && /[\r\n\0]/.test(event))) {
    throw new Error("a control character was passed on");
  }
}

const server: FuzzTarget = {
  name: "http1-request",
  seeds: short("http1-requests.md"),
  dictionary: DICTIONARY,
  covers: COVERS,
  run(pieces) {
    const relay = new Relay();
    for (const piece of pieces) relay.receive(piece);
    relay.receive(Buffer.alloc(0));
    if (relay.error !== undefined && relay.error.side !== "remote") throw relay.error;
    let complete = 0;
    for (const bytes of relay.upstream) {
      // What the origin sees has one reading only, and no request that was not answered.
      const { requests, cut } = readStrictly(bytes);
      if (requests.length + (cut ? 1 : 0) !== 1) throw new Error("requests run into each other");
      complete += requests.length;
    }
    if (complete !== relay.answered) throw new Error(`${complete} requests forwarded, ${relay.answered} answered`);
    return relay;
  },
};

const pieceByPiece: FuzzTarget = {
  name: "http1-request-split",
  seeds: short("http1-requests.md"),
  dictionary: DICTIONARY,
  covers: COVERS,
  run(pieces) {
    const events = (all: readonly Buffer[], isLent: boolean) => {
      const recorder = new ServerRecorder();
      recorder.react = (event) => {
        if (event !== "request" && event !== "request-end") return;
        if (event === "request" && !(recorder.events.at(-1) as string).endsWith(" |")) return;
        recorder.machine.sendHead(responseHead(204), true);
        recorder.machine.advance(0);
      };
      for (const piece of all) isLent ? lend(recorder.machine, piece) : recorder.machine.receive(piece, 0);
      recorder.machine.receive(Buffer.alloc(0), 0);
      const reported = recorder.take();
      recorder.events.push(...reported);
      judge(recorder);
      return reported.join("\n");
    };
    const whole = events([Buffer.concat(pieces)], false);
    if (events(pieces, false) !== whole) throw new Error("pieces are reported otherwise than the whole");
    if (events(pieces, true) !== whole) throw new Error("lent pieces are reported otherwise than the whole");
    return undefined;
  },
};

/** What a client reports for these pieces. */
function answers(method: string, pieces: readonly Buffer[], isLent: boolean): string {
  const recorder = new ClientRecorder();
  const form = method === "CONNECT" ? "authority" : "origin";
  const upgrade = headers(["Host", "a"], ["Upgrade", "x"]);
  // CONNECT and upgrades are never read from lent memory.
  const list = method === "GET" ? headers(["Host", "a"]) : upgrade;
  recorder.machine.sendHead(requestHead({ method, form, headers: list }), true);
  for (const piece of pieces) {
    if (isLent) lend(recorder.machine, piece);
    else recorder.machine.receive(piece, 0);
    if (recorder.machine.reusable) recorder.machine.sendHead(requestHead(), true);
  }
  recorder.machine.receive(Buffer.alloc(0), 0);
  const reported = recorder.take();
  recorder.events.push(...reported);
  judge(recorder);
  return reported.join("\n");
}

const client: FuzzTarget = {
  name: "http1-response",
  seeds: short("http1-responses.md"),
  dictionary: [...DICTIONARY, ...["HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 304 \r\n"].map(latin1)],
  covers: COVERS,
  run(pieces) {
    for (const method of ["GET", "HEAD", "OPTIONS", "CONNECT"]) {
      if (answers(method, pieces, true) !== answers(method, pieces, false)) {
        throw new Error("lent pieces are reported otherwise than owned ones");
      }
    }
    return undefined;
  },
};

const chunks: FuzzTarget = {
  name: "chunked",
  seeds: ["0\r\n\r\n", "2\r\nhi\r\n0\r\n\r\n", "2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n"].map(
    latin1,
  ),
  dictionary: DICTIONARY,
  covers: COVERS,
  run(pieces) {
    const recorder = new ServerRecorder();
    recorder.receive("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (const piece of pieces) recorder.machine.receive(piece, 0);
    const events = recorder.take();
    recorder.events.push(...events);
    judge(recorder);
    if (events.includes("request-end")) {
      // What was taken for complete is so by the grammar, tolerance apart: nothing was made up.
      const content = events
        .filter((event) => event.startsWith("data "))
        .reduce((sum, event) => sum + event.length - 5, 0);
      if (content > Buffer.concat(pieces).length) throw new Error("more content than bytes");
    }
    return recorder;
  },
};

export const HTTP1_TARGETS: readonly FuzzTarget[] = [server, pieceByPiece, client, chunks];
