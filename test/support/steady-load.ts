/**
 * A program that asks at a steady rate, in a process of its own: `steady-load.ts {"port":…,"perSecond":…,"freshEvery":…}`.
 *
 * Requests are due by the clock, whether or not those before are answered: who cannot keep up is seen to lag, not asked
 * less. Every `freshEvery`th goes over a connection of its own, the others over a few that stay open. It opens those one by
 * one, says `steady`, and begins; told anything over its channel, it waits for what is under way, tells a
 * {@link LoadReport} and ends.
 */
import { connect, type Socket } from "node:net";

export interface LoadOptions {
  readonly port: number;
  readonly perSecond: number;
  readonly freshEvery: number;
}

export interface LoadReport {
  readonly asked: number;
  readonly answered: number;
  /** One line each. */
  readonly failed: readonly string[];
  /** Asked in a second, over the whole time. */
  readonly perSecond: number;
  /** From when a request was due to the end of its answer. */
  readonly p99Ms: number;
  readonly maxMs: number;
}

const KEPT = 16;
// So many under way, and more are not begun: a machine that cannot keep up shall be slow, not collapse.
const MAX_OPEN = 64;
const MAX_FRESH = 8;
const ANSWER_MS = 10_000;
const MAX_TRIES = 200;
const HEAD_END = "\r\n\r\n";

const options = JSON.parse(process.argv[2] ?? "{}") as LoadOptions;
const latencies: number[] = [];
const failed: string[] = [];
const idle: Line[] = [];
const waiting: number[] = [];
let open = 0;
let fresh = 0;
let asked = 0;
let answered = 0;
let lines = 0;

/** One connection, with one request under way at most. */
class Line {
  readonly #socket: Socket;
  readonly #fresh: boolean;
  #dueAt: number | undefined;
  #text = "";

  constructor(ofItsOwn: boolean, dueAt: number) {
    if (ofItsOwn) fresh++;
    else lines++;
    open++;
    this.#fresh = ofItsOwn;
    this.#socket = connect({ port: options.port, host: "127.0.0.1", noDelay: true });
    this.#socket.setEncoding("latin1");
    this.#socket.setTimeout(ANSWER_MS, () => this.#socket.destroy(new Error("no answer within ten seconds")));
    this.#socket.on("data", (text: string) => this.#receive(text));
    this.#socket.on("error", (error) => this.#end(error.message));
    this.#socket.on("close", () => {
      if (this.#fresh) fresh--;
      else lines--;
      const at = idle.indexOf(this);
      if (at >= 0) idle.splice(at, 1);
      this.#end("closed without an answer");
    });
    this.send(dueAt);
  }

  // Its request counts as under way already.
  send(dueAt: number): void {
    this.#dueAt = dueAt;
    this.#text = "";
    this.#socket.write(`GET / HTTP/1.1\r\nhost: app.example\r\n${this.#fresh ? "connection: close\r\n" : ""}\r\n`);
  }

  #receive(text: string): void {
    this.#text += text;
    const end = this.#text.indexOf(HEAD_END);
    if (end < 0) return;
    const length = Number(/content-length: (\d+)/i.exec(this.#text.slice(0, end))?.[1] ?? Number.NaN);
    if (this.#text.length < end + HEAD_END.length + length) return;
    const status = this.#text.slice(9, 12);
    this.#end(status === "200" ? undefined : `status ${status}`);
    if (this.#fresh) this.#socket.end();
    else {
      const due = waiting.shift();
      if (due === undefined) idle.push(this);
      else this.send(due);
    }
  }

  #end(failure: string | undefined): void {
    if (this.#dueAt === undefined) return;
    open--;
    if (failure !== undefined) failed.push(failure);
    else answered++;
    latencies.push(performance.now() - this.#dueAt);
    this.#dueAt = undefined;
  }
}

function ask(dueAt: number): void {
  if (asked++ % options.freshEvery === 0) {
    new Line(true, dueAt);
    return;
  }
  const line = idle.pop();
  if (line === undefined && lines < KEPT) {
    new Line(false, dueAt);
    return;
  }
  open++;
  if (line !== undefined) line.send(dueAt);
  else waiting.push(dueAt);
}

/** Programs that have just been started are slow: each connection is answered before the next is opened. */
async function warmUp(): Promise<void> {
  for (let tries = 0; idle.length < KEPT; tries++) {
    if (tries === MAX_TRIES) throw new Error(`no answers: ${failed.at(-1)}`);
    new Line(false, performance.now());
    while (open > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  failed.length = 0;
  latencies.length = 0;
  answered = 0;
}

await warmUp();
process.send?.("steady");
const began = performance.now();
const timer = setInterval(() => {
  const due = Math.floor(((performance.now() - began) * options.perSecond) / 1000);
  while (asked < due && open < MAX_OPEN && fresh < MAX_FRESH) ask(began + (asked * 1000) / options.perSecond);
}, 2);

process.once("message", () => {
  clearInterval(timer);
  const seconds = (performance.now() - began) / 1000;
  const wait = setInterval(() => {
    if (open > 0) return;
    clearInterval(wait);
    latencies.sort((a, b) => a - b);
    const p99Ms = latencies[Math.ceil(0.99 * latencies.length) - 1] ?? 0;
    const maxMs = latencies.at(-1) ?? 0;
    const report: LoadReport = { asked, answered, failed, perSecond: asked / seconds, p99Ms, maxMs };
    process.send?.(report, () => process.exit(0));
  }, 10);
});
