import { Agent, request } from "node:http";
import { connect } from "node:http2";

/** How an honest client fared: HTTP/1 and HTTP/2, each over one connection of its own. */
export interface Bystander {
  readonly asked: number;
  /** What went wrong, a line each; clean is none. */
  readonly failures: readonly string[];
  readonly p99Ms: number;
}

// As in a household: often enough to notice, too little to matter.
const EVERY_MS = 100;
// Far beyond anything that a client of a proxy that is not blocked sees, also on a machine that is busy otherwise.
const GIVE_UP_MS = 5_000;

/** Ten HTTP/1 and ten HTTP/2 requests a second through a proxy's port, while something else happens. */
export async function withBystander(port: number, during: () => Promise<unknown>): Promise<Bystander> {
  const failures: string[] = [];
  const latencies: number[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", (error) => failures.push(`HTTP/2 connection: ${error.message}`));
  const ended = (what: string, since: number, status: number | undefined) => {
    latencies.push(performance.now() - since);
    if (status !== 200) failures.push(`${what}: ${status ?? "no answer"}`);
  };
  const http1 = () =>
    new Promise<void>((resolve) => {
      const since = performance.now();
      const done = (status: number | undefined) => {
        ended("HTTP/1", since, status);
        resolve();
      };
      const req = request({ host: "127.0.0.1", port, agent, path: "/bystander", timeout: GIVE_UP_MS }, (res) => {
        res.resume();
        res.on("end", () => done(res.statusCode));
        res.on("error", () => done(undefined));
      });
      req.on("timeout", () => req.destroy());
      req.on("error", () => done(undefined));
      req.end();
    });
  const http2 = () =>
    new Promise<void>((resolve) => {
      const since = performance.now();
      const stream = session.request({ ":path": "/bystander" });
      let status: number | undefined;
      stream.setTimeout(GIVE_UP_MS, () => stream.close());
      stream.on("response", (headers) => {
        status = headers[":status"];
      });
      stream.on("error", () => {});
      stream.on("close", () => {
        ended("HTTP/2", since, stream.rstCode === 0 ? status : undefined);
        resolve();
      });
      stream.resume();
      stream.end();
    });
  const asked: Promise<void>[] = [];
  const timer = setInterval(() => asked.push(http1(), http2()), EVERY_MS);
  try {
    await during();
  } finally {
    clearInterval(timer);
    asked.push(http1(), http2());
    await Promise.all(asked);
    agent.destroy();
    session.destroy();
  }
  latencies.sort((a, b) => a - b);
  return { asked: asked.length, failures, p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? 0 };
}
